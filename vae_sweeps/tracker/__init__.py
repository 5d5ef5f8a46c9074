"""Mirrors run folders to Weights & Biases; the folders stay the source of truth. Imports `runs` and lower packages."""
