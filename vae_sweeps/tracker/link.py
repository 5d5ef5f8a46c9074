"""Telling W&B of a job's runs while they train: the job's side, which only writes lines to a helper process.

The helper (`__main__.py`) has a session of its own, so that neither Ctrl-C nor a dead server reaches training.
"""

import json
import logging
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from vae_sweeps.config.launch_options import Tracker
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder, output_dir_option
from vae_sweeps.system import helper_process
from vae_sweeps.tracker import account

log = logging.getLogger(__name__)

# A job's end waits so long for the helper, which itself gives up before.
_CLOSE_S, _KILL_S = 25.0, 28.0


class Link:
    """The way to a helper, which starts with the first run; with mode none, whatever it is told goes nowhere."""

    def __init__(
        self, settings: Tracker | None = None, sweep: SweepFolder | None = None, *, keeps_place: bool = False
    ) -> None:
        """`keeps_place`: runs that are on W&B already stay in their projects."""
        self._mode, self._how_to_sync = _effective_mode(settings), how_to_send(sweep)
        self._hello = {
            "settings": {**(asdict(settings) if settings else {}), "mode": self._mode},
            "sweep_folder": str(sweep.path.resolve()) if sweep else None,
            "keeps_place": keeps_place,
            "how_to_sync": self._how_to_sync,
        }
        self._process: subprocess.Popen[str] | None = None
        # Lines go through a thread: a pipe to a helper that hangs fills up, and writing to it would stop training.
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def begin(self, runs: Mapping[RunFolder, Mapping[str, Any]]) -> None:
        """Show these runs; each with what is to stand beside its config (plain values)."""
        if not runs or self._mode == "none":
            return
        if self._process is None:
            if self._mode == "auto" and not account.has_key():
                log.info("W&B: off, there is no key (%s; or tracker=none to hear no more of it)", account.HOW_TO_LOG_IN)
                self._mode = "none"
                return
            self._start()
        self._tell(do="begin", runs={str(folder.path.resolve()): facts for folder, facts in runs.items()})

    def saved(self, folders: Iterable[RunFolder], step: int) -> None:
        """Rows up to `step` are covered by checkpoints, and will not be taken back."""
        self._tell(do="saved", folders=[str(folder.path.resolve()) for folder in folders], step=step)

    def ended(self, folders: Iterable[RunFolder]) -> None:
        """Nothing more will come of these runs in this job; their folders say how they ended."""
        self._tell(do="ended", folders=[str(folder.path.resolve()) for folder in folders])

    def close(self) -> None:
        """Wait, less than 30 s, until W&B has everything; what it has not is said in one line."""
        if self._process is None:
            return
        self._tell(do="close", seconds=_CLOSE_S)
        self._lines.put(None)
        try:
            self._process.wait(_KILL_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for thread in self._threads:
            thread.join(1.0)
        if self._process.returncode != 0:
            log.warning("W&B has not got everything (its helper did not end well); to send it: %s", self._how_to_sync)
        self._process = None

    def _start(self) -> None:
        self._process = helper_process.start("vae_sweeps.tracker", stderr=subprocess.DEVNULL)
        self._threads = [threading.Thread(target=f, args=(self._process,), daemon=True) for f in (self._write, _listen)]
        for thread in self._threads:
            thread.start()
        self._lines.put(json.dumps(self._hello))

    def _tell(self, **message: Any) -> None:
        if self._process is not None:
            self._lines.put(json.dumps(message))

    def _write(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        try:
            while (line := self._lines.get()) is not None:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            process.stdin.close()
        except OSError:
            return  # the helper is gone, which `close` tells


def _listen(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            heard = json.loads(line)
        except json.JSONDecodeError:
            continue  # a word of wandb's own
        log.log(logging.WARNING if heard["level"] == "warning" else logging.INFO, heard["say"])


def _effective_mode(settings: Tracker | None) -> str:
    """`auto` gives way to W&B's own WANDB_MODE."""
    own = {"offline": "offline", "disabled": "none"}.get(os.environ.get("WANDB_MODE", ""), "auto")
    modes = {"auto": own, "online": "online", "offline": "offline"}
    return modes.get(settings.mode, "none") if settings else "none"


@contextmanager
def linked(settings: Tracker, sweep: SweepFolder | None, *, keeps_place: bool = False) -> Iterator[Link]:
    """A link for a job, closed in its end."""
    link = Link(settings, sweep, keeps_place=keeps_place)
    try:
        yield link
    finally:
        link.close()


def how_to_send(sweep: SweepFolder | None) -> str:
    """The command that sends later what W&B has not."""
    if sweep is None:
        return "vae-sweeps sync RUN_FOLDER"
    return f"vae-sweeps sync {sweep.name}{output_dir_option(sweep)}"
