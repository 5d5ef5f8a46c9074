"""Uploading pictures that wandb's client did not send."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.wandb_server import WandbServer

# In a separate process, because wandb supports one server per process.
SENDING = """
import sys
from pathlib import Path
from vae_sweeps.tracker.server import send_missing_files
from vae_sweeps.tracker.address import Place
send_missing_files(Place(None, "vae", "abc"), Path(sys.argv[1]))
"""


def test_missing_media_are_sent_and_present_ones_are_not_sent_again(tmp_path: Path) -> None:
    (tmp_path / "media" / "images").mkdir(parents=True)
    for name in ("here", "there", "empty"):
        (tmp_path / "media" / "images" / f"{name}.png").write_bytes(b"picture")
    with WandbServer() as server:
        run = server.find_or_make("somebody", "vae", "abc")
        run.uploads |= {"media/images/there.png": 3, "media/images/empty.png": 0, "config.yaml": 5}
        command = [sys.executable, "-c", SENDING, str(tmp_path)]
        subprocess.run(command, env=os.environ | server.environment(), check=True)
        sizes = {"media/images/here.png": 7, "media/images/there.png": 3, "media/images/empty.png": 7, "config.yaml": 5}
        assert run.uploads == sizes
        assert server.unknown == []
