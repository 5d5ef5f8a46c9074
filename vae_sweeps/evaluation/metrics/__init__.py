"""The formulas of single metrics, as functions from tensors to numbers."""
