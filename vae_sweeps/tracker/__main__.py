"""The helper that talks to W&B for a job: one process beside the one that trains, which it can neither slow nor stop.

It is told of runs by lines of JSON (see `link.py`), reads the rest from their folders, and says what matters to people.
"""

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.tracker import server
from vae_sweeps.tracker.helper import Helper, say


def _read(messages: "queue.Queue[dict[str, Any] | None]") -> None:
    for line in sys.stdin:
        messages.put(json.loads(line))
    messages.put(None)


def main() -> None:
    """Serve one job until its end of the pipe closes."""
    # SLURM tells all processes of a job to end; this one still has to send what the job saves last.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.environ.pop("WANDB_SERVICE", None)  # of another process's helper
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    helper = Helper(json.loads(sys.stdin.readline()))
    messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    seconds = 25.0
    while (message := messages.get()) is not None:
        folders = [RunFolder(Path(folder)) for folder in message.get("folders", ())]
        if message["do"] == "begin":
            helper.begin({RunFolder(Path(folder)): facts for folder, facts in message["runs"].items()})
        elif message["do"] == "saved":
            helper.saved(folders, message["step"])
        elif message["do"] == "ended":
            helper.ended(folders)
        elif message["do"] == "close":
            seconds = message["seconds"]
    helper.close(seconds)
    # Not by sys.exit: threads that wait for a dead server would keep the process.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        say(f"W&B: the helper failed ({server.in_short(error)})", "warning")
        raise
