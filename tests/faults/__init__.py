"""A campaign of injected faults: sweeps are disturbed, launched again, and compared with an undisturbed one."""
