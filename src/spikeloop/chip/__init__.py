"""All that is true of BrainScaleS-2: integers at its edge, SI units inside. Nothing here knows torch modules."""
