"""Commands in processes of their own, which can be told everything that a process can be told."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers import ROOT

_LONG_S = 240.0


class StuckError(Exception):
    """A command did not end in time."""


@dataclass(frozen=True)
class Ended:
    """A command's exit code (negative: the signal that ended it), and all that it has printed."""

    code: int
    output: str


@dataclass
class Running:
    """A command that was started."""

    zygote: "Zygote"
    pid: int
    log: Path
    # For what it prints to standard error; the same file, or another one.
    errors: Path

    def send(self, number: int) -> None:
        """Send a signal to the command and its children."""
        self.zygote.ask({"signal": number, "pid": self.pid}, "signalled")

    def is_running(self) -> bool:
        self.zygote.listen(0.0)
        return self.pid not in self.zygote.codes

    def wait(self, timeout_s: float = _LONG_S) -> Ended:
        """Wait for the end. Raises StuckError, and kills the command, if it does not come."""
        end = time.monotonic() + timeout_s
        while self.is_running():
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                raise StuckError(f"still running after {timeout_s:.0f} s: {self.output()[-300:]}")
            self.zygote.listen(0.1)
        return Ended(self.zygote.codes[self.pid], self.output())

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")


@dataclass
class Zygote:
    """A process of zygote.py: `prefix` is the command that starts it (such as unshare), `environment` what it sees."""

    folder: Path
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    draws: bool = False

    def __post_init__(self) -> None:
        self.codes: dict[int, int] = {}
        self._answers: list[dict[str, Any]] = []
        self._unread = b""
        self._count = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "tests.helpers.zygote", *(() if self.draws else ("--plain",))],
            cwd=ROOT,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(self._process.stdout, selectors.EVENT_READ)
        self._take("ready")

    def start(
        self,
        program: str,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        splits_errors: bool = False,
    ) -> Running:
        """Start `launch.py` or `vae-sweeps`; in an empty folder, as `python launch.py` may be started anywhere."""
        self._count += 1
        log = self.folder / f"{os.getpid()}-{self._count}.log"
        errors = log.with_suffix(".err") if splits_errors else log
        path = str(ROOT / program) if program.endswith(".py") else program
        request = {
            "start": [path, *map(str, arguments)],
            "cwd": str(cwd or self.folder),
            "env": {**self._environment(), **(environment or {})},
            "output": str(log),
            "errors": str(errors),
        }
        answer = self.ask(request, "started")
        self.codes.pop(answer["started"], None)  # of an earlier process with the same number
        return Running(self, answer["started"], log, errors)

    def _environment(self) -> dict[str, str]:
        return os.environ | {"OMP_NUM_THREADS": "1", **self.environment}

    def ask(self, request: Mapping[str, Any], answer: str) -> dict[str, Any]:
        """Send a request, and return the first answer of this kind."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._take(answer)

    def listen(self, timeout_s: float) -> None:
        """Take note of commands that have ended."""
        if self._waiting.select(timeout_s):
            assert self._process.stdout is not None
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise StuckError("the zygote has ended")
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                if "ended" in answer:
                    self.codes[answer["ended"]] = answer["code"]
                else:
                    self._answers.append(answer)

    def _take(self, kind: str) -> dict[str, Any]:
        end = time.monotonic() + 120
        while True:
            for i, answer in enumerate(self._answers):
                if kind in answer:
                    return self._answers.pop(i)
            if time.monotonic() > end:
                raise StuckError(f"the zygote does not answer ({kind})")
            self.listen(1.0)

    def close(self) -> None:
        """End the zygote; in a namespace of its own, everything in it ends."""
        self._waiting.close()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
