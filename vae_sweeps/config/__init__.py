"""Config keys and their allowed values, composition by Hydra, and run ids. Imports `system`."""
