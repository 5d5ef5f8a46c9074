"""Reports a job's runs to a tracker while they train: the job's side, which only writes lines to a helper process.

The helper (`__main__.py`) runs in its own session, so Ctrl-C does not reach it, and neither a dead server nor a full
disk can stop training.
"""

import json
import logging
import os
import queue
import shlex
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

# SLURM sends these to all processes of a job. The helper stays, to send what the job saves before it exits.
_SLURM_SENDS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# Seconds that the helper has to finish, and after which the job kills it.
_CLOSE_S, _KILL_S = 25.0, 28.0


class Link:
    """A connection to a helper process, which starts with the first run; does nothing with mode none."""

    def __init__(
        self, settings: Tracker | None = None, sweep: SweepFolder | None = None, *, keeps_place: bool = False
    ) -> None:
        """`keeps_place`: runs that are already on W&B stay in their projects."""
        self.keeps_place = keeps_place
        self._mode = _effective_mode(settings)
        self._tracker, command = ("TensorBoard", "tensorboard") if self._mode == "tensorboard" else ("W&B", "sync")
        self._how_to_sync = how_to_send(sweep, command)
        self._hello = {
            "settings": {**(asdict(settings) if settings else {}), "mode": self._mode},
            "sweep_folder": str(sweep.path.resolve()) if sweep else None,
            "keeps_place": keeps_place,
            "how_to_sync": self._how_to_sync,
        }
        self._process: subprocess.Popen[str] | None = None
        # A thread writes the lines: if the helper hangs, its pipe fills up, and writing to it would block training.
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def begin(self, runs: Mapping[RunFolder, Mapping[str, Any]]) -> None:
        """Show these runs, each with facts (plain values) to add to its config."""
        if not runs or self._mode == "none":
            return
        if self._process is None:
            if self._mode == "auto" and not account.has_key():
                log.info("W&B: off, there is no key (%s; set tracker=none to hide this message)", account.HOW_TO_LOG_IN)
                self._mode = "none"
                return
            self._start()
        self._tell(do="begin", runs={str(folder.path.resolve()): facts for folder, facts in runs.items()})

    def saved(self, folders: Iterable[RunFolder], step: int) -> None:
        """Report that checkpoints cover the rows up to `step`, so training will not roll them back."""
        self._tell(do="saved", folders=[str(folder.path.resolve()) for folder in folders], step=step)

    def ended(self, folders: Iterable[RunFolder]) -> None:
        """Report that these runs have ended in this job; their folders hold the outcome."""
        self._tell(do="ended", folders=[str(folder.path.resolve()) for folder in folders])

    def close(self) -> None:
        """Wait up to 30 s until the tracker has everything; one line in the log reports what is missing."""
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
            text = "%s may be missing data (its helper process failed); to send the rest: %s"
            log.warning(text, self._tracker, self._how_to_sync)
        self._process = None

    def _start(self) -> None:
        self._process = helper_process.start("vae_sweeps.tracker", stderr=subprocess.DEVNULL, blocked=_SLURM_SENDS)
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
            return  # the helper has exited; `close` logs that


def _listen(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            message = json.loads(line)
        except json.JSONDecodeError:
            continue  # printed by wandb
        log.log(logging.WARNING if message["level"] == "warning" else logging.INFO, message["say"])


def _effective_mode(settings: Tracker | None) -> str:
    """The mode of the settings; for `auto`, W&B's variable WANDB_MODE decides if it is set."""
    automatic = {"offline": "offline", "disabled": "none"}.get(os.environ.get("WANDB_MODE", ""), "auto")
    modes = {"auto": automatic, "online": "online", "offline": "offline", "tensorboard": "tensorboard"}
    return modes.get(settings.mode, "none") if settings else "none"


@contextmanager
def linked(settings: Tracker, sweep: SweepFolder | None, *, keeps_place: bool = False) -> Iterator[Link]:
    """A link for a job, closed on exit."""
    link = Link(settings, sweep, keeps_place=keeps_place)
    try:
        yield link
    finally:
        link.close()


def how_to_send(sweep: SweepFolder | None, command: str) -> str:
    """The command that later sends what the tracker is missing; `command` is that of `vae-sweeps`."""
    if sweep is None:
        return f"vae-sweeps {command} RUN_FOLDER"
    return f"vae-sweeps {command} {shlex.quote(sweep.name)}{output_dir_option(sweep)}"
