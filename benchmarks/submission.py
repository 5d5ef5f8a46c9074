"""How long it takes to submit a sweep to SLURM: `python -m benchmarks.submission`, as root, with SLURM installed.

Sweeps of small points are submitted to a SLURM on this machine and cancelled; no job begins before an hour has passed.
The seconds are those of the command: it composes the points, checks and groups them, makes their folders and submits.
"""

import sys
import tempfile

from benchmarks.main_job import timed
from tests.helpers.slurm_cluster import Cluster
from tests.helpers.slurm_sweeps import SLURM, running_cluster
from vae_sweeps.system.logs import count

SIZES = (9, 1_000, 10_000)
SMALL = ("arch.hidden=[16]", "latent=2", "steps=2", "evaluation=none", "tracker=none", "sweep=grid")
LATER = "+hydra.launcher.additional_parameters.begin=now+1hour"


def submit(cluster: Cluster, num_points: int) -> tuple[float, int]:
    """The seconds, and the number of jobs."""
    with tempfile.TemporaryDirectory() as folder:
        points = ("-m", f"seed=range({num_points})", f"output_dir={folder}")
        seconds, _ = timed([sys.executable, "launch.py", *points, *SMALL, *SLURM, LATER])
        num_jobs = len(cluster.run("squeue", "--noheader", "--array").splitlines())
        cluster.run("scancel", "--user=root")
    return seconds, num_jobs


def main() -> None:
    with running_cluster(num_nodes=1) as cluster:
        submit(cluster, SIZES[0])  # the first command also prepares the data
        for num_points in SIZES:
            seconds, num_jobs = submit(cluster, num_points)
            print(f"{num_points:,} points in {count(num_jobs, 'job')}: {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
