"""Time to verify the decoded images of a data set, which each process does once: sha256 on all cores.

    python -m benchmarks.verifying [--gb 2.5]

Writes a file of that size (CelebA at 64 x 64 takes 2.5 GB) into the folder for temporary files, and hashes it from the
kernel's cache and, where the kernel can be asked to forget it, from the disk.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from vae_sweeps.data.decoding.array import content_of
from vae_sweeps.system import cpus

ROUNDS, ROW_BYTES = 5, 3 * 64 * 64


def seconds(path: Path, num_bytes: int, *, is_cold: bool) -> float:
    if is_cold:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    content_of(path, num_bytes, ROW_BYTES)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=2.5)
    num_bytes = int(parser.parse_args().gb * 1e9) // ROW_BYTES * ROW_BYTES
    block = np.random.default_rng(0).bytes(1 << 24)
    with tempfile.NamedTemporaryFile() as file:
        for start in range(0, num_bytes, len(block)):
            file.write(block[: num_bytes - start])
        file.flush()
        os.fsync(file.fileno())
        for place, is_cold in (("the kernel's cache", False), ("the disk", True)):
            if is_cold and not hasattr(os, "posix_fadvise"):
                continue
            took = statistics.median(seconds(Path(file.name), num_bytes, is_cold=is_cold) for _ in range(ROUNDS))
            speed = f"{num_bytes / took / 1e6:,.0f} MB/s"
            print(f"{num_bytes / 1e9:.1f} GB from {place}: {took:.2f} s, {speed} on {cpus.usable()} cores")


if __name__ == "__main__":
    main()
