"""Writes a trained model for programs without this package. Imports `evaluation` and lower packages."""
