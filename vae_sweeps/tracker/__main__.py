"""The helper process that sends a job's runs to W&B, apart from training, which it can neither slow down nor stop.

It receives lines of JSON that name the runs (see `link.py`), reads the rest from their folders, and prints messages for
the job's log.
"""

import json
import os
import queue
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
    """Serve one job until the job closes its end of the pipe."""
    os.environ.pop("WANDB_SERVICE", None)  # it belongs to the wandb service of another process
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
    # Not sys.exit: threads that wait for a dead server would keep the process alive.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        say(f"W&B: the helper failed ({server.in_short(error)})", "warning")
        raise
