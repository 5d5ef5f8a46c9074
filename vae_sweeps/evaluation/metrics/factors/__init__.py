"""Metrics of disentanglement: how the latents of a model relate to the factors of variation of its images."""
