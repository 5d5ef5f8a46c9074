"""Run folders and sweep folders: what they hold and where their points stand. Imports `config` and `system`."""
