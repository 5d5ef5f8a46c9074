"""Train one point, or with -m a sweep: `python launch.py -m beta=0,0.01,1 latent=2,10,128`."""

import os

# Must be set before torch is imported. By default OpenMP's threads wait for each other by spinning for a long time. If
# other processes are busy, this starves the thread they wait for (measured at K = 9 beside two busy processes on two
# cores: 101 ms per step and point, but 6 ms with this setting; no difference on a quiet machine).
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

from vae_sweeps.launch.start import start

if __name__ == "__main__":
    start()
