"""Places that carry out trials: sibling files of one shape."""
