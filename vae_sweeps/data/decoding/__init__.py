"""Decode image files into one array of bytes on disk, in processes that do not import torch."""
