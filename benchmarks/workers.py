"""A sweep in one process, and in as many as `hydra.launcher.workers=auto` chooses: `python -m benchmarks.workers`.

Runs the README's demo, or the arguments given, in turn; prints the seconds from the command to its table, and the ratio
within each round. A first run, which is not counted, fills the cache of the evaluation.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEMO = ["beta=0,0.01,1", "latent=2,10,128"]
ROUNDS = 3


def seconds(workers: str, arguments: list[str]) -> tuple[float, str]:
    """The duration of the command, and the line that says what it trains."""
    with tempfile.TemporaryDirectory() as folder:
        own = ["-m", f"hydra.launcher.workers={workers}", "tracker=none", f"output_dir={folder}"]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "launch.py", *own, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return time.monotonic() - began, next(line for line in done.stdout.splitlines() if "to train in" in line)


def main() -> None:
    arguments = sys.argv[1:] or DEMO
    seconds("1", [*arguments, "epochs=1"])
    ratios = []
    for _ in range(ROUNDS):
        auto, what = seconds("auto", arguments)
        one, _ = seconds("1", arguments)
        ratios.append(auto / one)
        print(f"{what}: {auto:.0f} s; in one process {one:.0f} s; ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
