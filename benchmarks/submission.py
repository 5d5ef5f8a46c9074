"""How long it takes to submit a sweep to SLURM: `python -m benchmarks.submission`, as root, with SLURM installed.

Sweeps of small points are submitted to a SLURM on this machine and cancelled; no job begins before an hour has passed.
The seconds are those of the command: it composes the points, checks and groups them, makes their folders and submits.
"""

import sys
import tempfile

from benchmarks.main_job import timed
from tests.helpers.slurm_sweeps import SLURM, running_cluster

SIZES = (9, 1_000, 10_000)
SMALL = ("arch.hidden=[16]", "latent=2", "steps=2", "evaluation=none", "tracker=none", "sweep=grid")
LATER = "+hydra.launcher.additional_parameters.begin=now+1hour"


def main() -> None:
    with running_cluster(num_nodes=1) as cluster:
        for is_first, number in ((True, SIZES[0]), *((False, size) for size in SIZES)):
            with tempfile.TemporaryDirectory() as folder:
                points = ("-m", f"seed=range({number})", f"output_dir={folder}")
                seconds, _ = timed([sys.executable, "launch.py", *points, *SMALL, *SLURM, LATER])
                num_jobs = len(cluster.run("squeue", "--noheader", "--array").splitlines())
                cluster.run("scancel", "--user=root")
            if not is_first:  # that one also prepares the data
                print(f"{number:,} points, jobs: {num_jobs}: {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
