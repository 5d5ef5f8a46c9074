"""The command `vae-sweeps`. May import every package; commands import what they need when they run."""
