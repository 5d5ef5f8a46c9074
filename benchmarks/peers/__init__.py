"""Other programs that train the same networks, each in a process of its own.

They import nothing of vae_sweeps (except `pack`), since they run in environments that do not have it.
"""
