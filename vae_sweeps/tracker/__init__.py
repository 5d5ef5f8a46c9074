"""Weights & Biases as a view of the run folders, which stay the authority. Imports `runs` and lower packages."""
