"""Tables, plots and pictures of finished runs and sweeps. Imports `evaluation`, `tracker` and lower packages."""
