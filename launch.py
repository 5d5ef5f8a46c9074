"""Train one point, or with -m a sweep: `python launch.py -m beta=0,0.01,1 latent=2,10,128`."""

from vae_sweeps.launch.start import start

if __name__ == "__main__":
    start()
