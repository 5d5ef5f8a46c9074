"""The mathematics of single metrics: tensors in, numbers out."""
