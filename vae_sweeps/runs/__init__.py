"""Run folders and sweep folders: their files and the states of their points. Imports `config` and `system`."""
