"""The work of the helper process: opens, feeds and finishes a job's runs on W&B."""

import contextlib
import resource
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb

from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.tracker import account, address, server, view
from vae_sweeps.tracker.address import Place
from vae_sweeps.tracker.feed import Feed, open_feed, remove_copies

# File descriptors of the wandb process: measured online with 8, 32 and 64 runs, 8 to 12 per run, most while it sends
# pictures.
_DESCRIPTORS_PER_RUN, _OTHER_DESCRIPTORS = 12, 40
_MAX_LIVE = 256
_NUM_THREADS = 32
_SIDE_BY_SIDE = 16
_LOOK_S = 8


def _max_live() -> int:
    """How many runs can be open at once, after raising the limit on file descriptors to its maximum."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, min(_MAX_LIVE, (hard - _OTHER_DESCRIPTORS) // _DESCRIPTORS_PER_RUN))


@dataclass
class _Channel:
    """The state of one run: what the job sent about it, and its feed while that is open."""

    facts: Mapping[str, Any]
    saved_step: int = -1
    has_ended: bool = False
    is_queued: bool = False
    feed: Feed | None = None
    life: int = 0  # counts restarts of the wandb process; the value when the feed was opened
    is_over: bool = False
    is_sure: bool = False  # the server was seen to have all of it
    trouble: str = ""  # why the run is incomplete on W&B
    lock: threading.Lock = field(default_factory=threading.Lock)


class Helper:
    """Sends the runs of a job to W&B. Runs beyond the limit of open runs wait until others end."""

    def __init__(self, hello: Mapping[str, Any], say: Callable[..., None]) -> None:
        """`say(text, level)` writes a message to the job's log."""
        self.settings, self.say = hello["settings"], say
        self.sweep = SweepFolder(Path(hello["sweep_folder"])) if hello["sweep_folder"] else None
        self.keeps_place, self.how_to_sync = hello["keeps_place"], hello["how_to_sync"]
        self.channels: dict[RunFolder, _Channel] = {}
        self.slots, self.waiting = threading.Semaphore(_max_live()), deque[RunFolder]()
        self.pool = ThreadPoolExecutor(_NUM_THREADS)
        # The first run is opened alone, to learn whether the server accepts any.
        self.first, self.is_shown, self.life = threading.Lock(), False, 0
        self.mode, self.why_offline = "offline", "as asked for"
        if self.settings["mode"] != "offline":
            self.mode, self.why_offline = "online", f"{account.base_url()} does not answer"
            if not account.answers():
                self.mode = "offline"

    def begin(self, runs: Mapping[RunFolder, Mapping[str, Any]]) -> None:
        """Show these runs, each with extra facts for its config; a pack that is halved begins its runs again."""
        for folder, facts in runs.items():
            if folder not in self.channels or self.channels[folder].is_over:
                self.channels[folder] = _Channel(facts)
        self._pump(runs)

    def saved(self, folders: Iterable[RunFolder], step: int) -> None:
        """Send the rows up to `step`, which training will not roll back."""
        for folder in (known := [folder for folder in folders if folder in self.channels]):
            self.channels[folder].saved_step = step
        self._pump(known)

    def ended(self, folders: Iterable[RunFolder]) -> None:
        """Send the rest of these runs, and finish them."""
        for folder in (known := [folder for folder in folders if folder in self.channels]):
            self.channels[folder].has_ended = True
        self._pump(known)

    def _pump(self, folders: Iterable[RunFolder]) -> None:
        for folder in folders:
            channel = self.channels[folder]
            if not channel.is_queued:  # else the queued task will see the change
                channel.is_queued = True
                self.pool.submit(self._bring_up_to_date, folder, channel)

    def _bring_up_to_date(self, folder: RunFolder, channel: _Channel) -> None:
        with channel.lock:
            channel.is_queued = False
            if channel.is_over:
                return
            if channel.feed is None and not self.slots.acquire(blocking=False):
                self.waiting.append(folder)
                return
            try:
                try:
                    feed = self._send(folder, channel)
                except Exception as error:
                    if not server.is_end_of_wandb(error):
                        raise
                    self._start_wandb_again(channel)
                    feed = self._send(folder, channel)
                if not channel.has_ended:
                    return
                if feed.mode == "offline":
                    channel.trouble = channel.trouble or self.why_offline
            except Exception as error:
                channel.trouble = server.in_short(error)
                if channel.feed is not None:
                    channel.feed.abandon()
            channel.is_over = True
            self.slots.release()
        if self.waiting:
            self._pump([self.waiting.popleft()])

    def _send(self, folder: RunFolder, channel: _Channel) -> Feed:
        if channel.feed is None:
            channel.life, channel.feed = self.life, self._open(folder, channel)
        channel.feed.send(channel.saved_step)
        if channel.has_ended:
            channel.feed.end()
        return channel.feed

    def _start_wandb_again(self, channel: _Channel) -> None:
        """Restart the wandb process, which SLURM's signals can end, and drop the feed so that the run is resumed."""
        with self.first:
            if self.life == channel.life:
                with contextlib.suppress(Exception):
                    wandb.teardown()
                self.life += 1
        if channel.feed is not None:
            channel.feed.abandon()
            channel.feed = None

    def _open(self, folder: RunFolder, channel: _Channel) -> Feed:
        with self.first:
            if not self.is_shown:
                self.is_shown = True
                return self._open_first(folder, channel)
        return self._open_as(self.mode, folder, channel)

    def _open_first(self, folder: RunFolder, channel: _Channel) -> Feed:
        """Open the run online if the server accepts it; otherwise keep this run and all others offline."""
        if self.mode == "online":
            try:
                feed = self._open_as("online", folder, channel)
                self.say(f"W&B: {feed.url}")
                return feed
            except Exception as error:
                # The caller starts wandb again, but only once, and then opens the run again.
                can_start_again = server.is_end_of_wandb(error) and self.life == 0
                if can_start_again or server.is_about_this_run(error):
                    self.is_shown = False
                    raise
                self.mode, self.why_offline = "offline", server.in_short(error)
                wandb.teardown()
        return self._open_as("offline", folder, channel)

    def _open_as(self, mode: str, folder: RunFolder, channel: _Channel) -> Feed:
        link = address.read_link(folder)
        place = Place(self.settings["entity"], self.settings["project"], address.run_id(folder, self.settings["salt"]))
        if self.keeps_place and link:
            place = address.place(folder)
        more = view.arguments(folder, self.sweep, self.settings["tags"], channel.facts)
        directory = self.settings["dir"]
        feed = open_feed(folder, place, mode, more, Path(directory) if directory else folder.path)
        address.write_link(folder, feed.place, mode=mode, dir=directory)
        return feed

    def close(self, seconds: float) -> None:
        """Finish all runs within `seconds`, compare them with the server, and report what it is missing."""
        end = time.monotonic() + seconds
        self.ended(self.channels)
        while time.monotonic() < end - _LOOK_S and not all(channel.is_over for channel in self.channels.values()):
            if self.waiting:
                self._pump([self.waiting.popleft()])
            time.sleep(0.02)
        for channel in self.channels.values():
            if not channel.is_over:
                channel.trouble = "the upload took too long"
        looking = threading.Thread(target=self._look, daemon=True)  # in a thread: wandb can exceed its own timeouts
        looking.start()
        looking.join(end - time.monotonic())
        self._distrust("the server did not report its rows")
        kept: dict[str, int] = {}
        for channel in self.channels.values():
            if channel.trouble:
                kept[channel.trouble] = kept.get(channel.trouble, 0) + 1
        if kept:
            reasons = "; ".join(reason for reason in kept)
            total = f"{sum(kept.values())} of {len(self.channels)} runs"
            is_asked = self.settings["mode"] == "offline" and list(kept) == [self.why_offline]
            text = f"W&B: {total} kept offline" if is_asked else f"W&B is missing data of {total} ({reasons})"
            self.say(f"{text}; to send the rest: {self.how_to_sync}", "info" if is_asked else "warning")

    def _distrust(self, reason: str) -> None:
        """Give `reason` as the trouble of all runs that were not seen to be complete and have none."""
        for channel in self.channels.values():
            if not channel.is_sure and not channel.trouble:
                channel.trouble = reason

    def _look(self) -> None:
        """Compare the server's row counts with the folders', and delete W&B's local files of complete runs."""
        done = {f: c.feed for f, c in self.channels.items() if c.feed and not c.trouble and c.feed.mode == "online"}
        until = time.monotonic() + _LOOK_S
        found = server.look_patiently([feed.place for feed in done.values()], until) if done else {}
        for folder, feed in done.items():
            expected = feed.num_rows()
            num_rows = found[feed.place].num_rows if feed.place in found else None
            if num_rows != expected:
                has = "the server did not report its rows" if num_rows is None else f"{num_rows} of {expected} rows"
                self.channels[folder].trouble = has
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            for folder, feed in done.items():
                if not self.channels[folder].trouble:
                    pool.submit(self._settle, folder, feed)

    def _settle(self, folder: RunFolder, feed: Feed) -> None:
        try:
            address.write_link(folder, feed.place, sent_step=feed.sent_step)
            remove_copies(folder, feed.place)
            self.channels[folder].is_sure = True
        except Exception as error:
            self.channels[folder].trouble = f"some pictures are missing: {server.in_short(error)}"
