"""Helper processes: Python processes of this package that read lines from a pipe and answer with lines."""

import os
import subprocess
import sys

from vae_sweeps.system.files import ROOT


def start(module: str, *, stderr: int | None = None) -> subprocess.Popen[str]:
    """Start `python -m module`, with pipes to its stdin and from its stdout; `stderr` is as for `subprocess.Popen`.

    The process can import this package from any working directory. It runs in its own session, so Ctrl-C in the
    terminal does not reach it.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", module],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
