"""The helper process that sends a job's runs to a tracker, apart from training, which it can neither slow nor stop.

It receives lines of JSON that name the runs (see `link.py`), reads the rest from their folders, and prints messages for
the job's log.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system.logs import first_line


class _Sender(Protocol):
    """What sends the runs; the methods are those of `Link`, which the job calls."""

    def begin(self, runs: Mapping[RunFolder, Mapping[str, Any]]) -> None: ...
    def saved(self, folders: Iterable[RunFolder], step: int) -> None: ...
    def ended(self, folders: Iterable[RunFolder]) -> None: ...
    def close(self, seconds: float) -> None: ...


def say(text: str, level: str = "info") -> None:
    """Print a message that the job writes to its log."""
    print(json.dumps({"say": text, "level": level}), flush=True)


def _sender(hello: Mapping[str, Any]) -> _Sender:
    if hello["settings"]["mode"] == "tensorboard":
        from vae_sweeps.tracker.event_writer import EventWriter  # tensorboard, which may not be installed

        return EventWriter(hello, say)
    from vae_sweeps.tracker.helper import Helper  # wandb, which is slow to import

    return Helper(hello, say)


def _read(messages: "queue.Queue[dict[str, Any] | None]") -> None:
    for line in sys.stdin:
        messages.put(json.loads(line))
    messages.put(None)


def main() -> None:
    """Serve one job until the job closes its end of the pipe."""
    os.environ.pop("WANDB_SERVICE", None)  # it belongs to the wandb service of another process
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    sender = _sender(json.loads(sys.stdin.readline()))
    messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    seconds = 25.0
    while (message := messages.get()) is not None:
        folders = [RunFolder(Path(folder)) for folder in message.get("folders", ())]
        if message["do"] == "begin":
            sender.begin({RunFolder(Path(folder)): facts for folder, facts in message["runs"].items()})
        elif message["do"] == "saved":
            sender.saved(folders, message["step"])
        elif message["do"] == "ended":
            sender.ended(folders)
        elif message["do"] == "close":
            seconds = message["seconds"]
    sender.close(seconds)
    # Not sys.exit: threads that wait for a dead server would keep the process alive.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        say(f"the helper process of the tracker failed ({first_line(error)})", "warning")
        raise
