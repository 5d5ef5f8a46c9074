"""The training loop: packs, objectives, noise, schedules and rows. Imports `evaluation` and lower packages."""
