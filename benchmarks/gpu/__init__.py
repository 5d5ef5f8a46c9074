"""What one NVIDIA GPU does, measured by one command: `python -m benchmarks.gpu`, which `make bench-gpu` runs."""
