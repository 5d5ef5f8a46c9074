"""Files, random generators, the machine, processes, SLURM, git and logs. Imports no other package of the project."""
