"""A campaign of injected faults: sweeps are disturbed, launched again, and compared with an undisturbed one."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
