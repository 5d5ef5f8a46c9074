"""Weights & Biases: a view of the run folders, which stay the authority."""
