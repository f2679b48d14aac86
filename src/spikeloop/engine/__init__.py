"""The native engine: arrays in, arrays out. ``plan`` makes arrays of a network; ``exact`` and ``adjoint`` run them."""
