"""The command `vae-sweeps`. Imports every package, each when a command needs it."""
