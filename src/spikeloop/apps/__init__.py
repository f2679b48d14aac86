"""Applications: whole systems on any substrate. Provisional."""
