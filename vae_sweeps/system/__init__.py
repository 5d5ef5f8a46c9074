"""The ground: files, random generators, the machine, processes, SLURM, git, logs. Imports nothing of the project."""
