"""Rules that differentiate records: sibling files of one shape."""
