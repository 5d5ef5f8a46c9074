"""Programs that answer like SLURM's clients, and never run a job."""

import os
from pathlib import Path

import pytest

_LINES = {
    "sbatch": 'case "$1" in --test-only) cat "$2" > /dev/null;; *) echo "Submitted batch job 7";; esac',
    "srun": "true",
    "squeue": "true",
    "sacct": "true",
    "scontrol": "echo 'MaxArraySize = 1001'",
}


def install(folder: Path, patch: pytest.MonkeyPatch, **lines: str) -> None:
    """Put the programs into `folder`/bin, on the path of this process; `lines` replaces what some of them do."""
    (folder / "bin").mkdir()
    for name, text in (_LINES | lines).items():
        write(folder, name, text)
    patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def write(folder: Path, name: str, lines: str) -> None:
    """Let the program `name` in `folder`/bin do this."""
    program = folder / "bin" / name
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)
