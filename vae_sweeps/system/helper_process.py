"""Helper processes: Python processes of this package that read lines from a pipe and answer with lines."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable

from vae_sweeps.system.files import ROOT


def start(module: str, *, stderr: int | None = None, blocked: Iterable[signal.Signals] = ()) -> subprocess.Popen[str]:
    """Start `python -m module`, with pipes to its stdin and from its stdout; `stderr` is as for `subprocess.Popen`.

    The process can import this package from any working directory. It runs in its own session, so Ctrl-C in the
    terminal does not reach it. It never receives the `blocked` signals, not even while it starts.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # the process inherits the mask
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
