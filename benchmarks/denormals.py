"""A long training with and without numbers below 1e-38, which Adam decays to: `python -m benchmarks.denormals`.

Prints ms per step and point in the course of training, of packs that train in turn in processes of their own.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.cases import CASES, images_of, specification

STEPS, PARTS, ROUNDS = 2000, 5, 3
ROOT = Path(__file__).parents[1]

TRAIN = f"""
import json, sys
from benchmarks.peers import pack
import numpy as np, torch
if sys.argv[2] == "kept":
    torch.set_flush_denormal = lambda _: False
pack.logging.disable()
pack.machine.prepare()
case, num_models = json.loads(sys.argv[1]), int(sys.argv[3])
points = pack.Points(case, np.load(case["images"]), num_models)
with pack.machine.memory_kept(torch.device("cpu")):
    marks, _ = points._train_new(0.0, {STEPS})
parts = np.array_split(np.diff(marks) * 1e3 / num_models, {PARTS})
print(" ".join(f"{{part.mean():.3g}}" for part in parts))
"""


def main() -> None:
    print(f"ms per step and point: means over {PARTS} equal parts of {STEPS:,} steps")
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES[:2]:
            file = Path(folder) / "images.npy"
            np.save(file, images_of(case))
            asked = json.dumps(specification(case, file))
            for num_models in (1, 9):
                for _ in range(ROUNDS):
                    for how in ("kept", "flushed"):
                        command = [sys.executable, "-c", TRAIN, asked, how, str(num_models)]
                        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
                        print(f"{case.name}, {num_models} in a pack, {how}: {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
