"""Requests to W&B's server: which runs it has, and its errors in one line."""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import AuthenticationError, CommError, UsageError
from wandb.sdk.lib.service.service_port_file import ServicePollForTokenError
from wandb.sdk.mailbox.mailbox import MailboxClosedError
from wandb.sdk.mailbox.mailbox_handle import HandleAbandonedError

from vae_sweeps.tracker.account import HOW_TO_LOG_IN
from vae_sweeps.tracker.address import Place

_REQUEST_S = 5
_RUNS_PER_REQUEST = 100
_CLOSE_S = 10


@dataclass(frozen=True)
class Remote:
    """A run as the server stores it."""

    num_rows: int
    state: str  # in W&B's words: running, finished, failed, crashed, preempting, preempted
    summary: dict[str, Any]


def in_short(error: BaseException) -> str:
    """The error in one line, with what to do about it where that is known."""
    text = " ".join(str(error).split())
    # If no answer comes, wandb reports that it could not verify the credentials.
    if isinstance(error, TimeoutError) or "in time" in text or "deadline exceeded" in text:
        return "the server does not answer in time"
    if "too many open files" in text.lower():
        return "too many open files (ulimit -n)"
    if isinstance(error, OSError) and error.strerror:
        return f"W&B's own files cannot be written: {error.strerror}"
    if re.search(r"\b401\b", text) or isinstance(error, AuthenticationError):
        return f"the key is refused: {HOW_TO_LOG_IN}"
    if isinstance(error, UsageError) and "API key" in text:
        return f"there is no key: {HOW_TO_LOG_IN}"
    if is_about_this_run(error):
        return "deleted on W&B, which never reuses an id: set another tracker.salt"
    return text[:200] if isinstance(error, ValueError) else f"{type(error).__name__}: {text[:200]}"


def is_about_this_run(error: BaseException) -> bool:
    """Whether the error concerns this run alone: its id was deleted, or another process sends it."""
    return "deleted" in str(error) or isinstance(error, ValueError)


def is_end_of_wandb(error: BaseException) -> bool:
    """Whether wandb's own process has ended, such as by one of SLURM's signals; it can be started again."""
    return isinstance(error, ConnectionError | MailboxClosedError | HandleAbandonedError | ServicePollForTokenError)


def default_entity() -> str:
    """The user or team that the API key belongs to. Raises wandb's errors."""
    return str(wandb.Api(timeout=_REQUEST_S).default_entity)


def look(places: Sequence[Place]) -> dict[Place, Remote]:
    """The runs that the server has, by address. Raises wandb's errors if it does not answer."""
    api = wandb.Api(timeout=_REQUEST_S)
    found = {}
    for entity, project in dict.fromkeys((place.entity, place.project) for place in places):
        by_id = {place.id: place for place in places if (place.entity, place.project) == (entity, project)}
        ids = list(by_id)
        for start in range(0, len(ids), _RUNS_PER_REQUEST):
            filters = {"name": {"$in": ids[start : start + _RUNS_PER_REQUEST]}}
            path = f"{entity or api.default_entity}/{project}"
            runs = api.runs(path, filters=filters, per_page=_RUNS_PER_REQUEST, lazy=False)
            try:
                for run in runs:
                    found[by_id[run.id]] = Remote(run.historyLineCount, run.state, dict(run.summary_metrics))
            except (ValueError, CommError) as error:
                if "Could not find project" not in str(error):
                    raise
    return found


def send_missing_files(place: Place, folder: Path) -> None:
    """Upload a finished run's media in `folder` that the server lacks: `finish` does not always wait for them.

    Raises wandb's errors.
    """
    local = {path.relative_to(folder).as_posix(): path for path in folder.glob("media/**/*") if path.is_file()}
    if not local:
        return
    api = wandb.Api(timeout=_REQUEST_S)
    run = api.run(f"{place.entity or api.default_entity}/{place.project}/{place.id}")
    there = {file.name for file in run.files(pattern="media/%", per_page=1000) if file.size > 0}
    for name in sorted(local.keys() - there):
        run.upload_file(str(local[name]), root=str(folder))


def look_patiently(places: Sequence[Place], until: float) -> dict[Place, Remote]:
    """Like `look`, but tries again until `until` (monotonic time) if the server does not answer; then returns {}."""
    while True:
        try:
            return look(places)
        except Exception:
            if time.monotonic() + _REQUEST_S > until:
                return {}
            time.sleep(0.5)


@contextmanager
def closing() -> Iterator[None]:
    """End wandb's own process at the end of the block, or leave it behind if that takes more than some seconds.

    Otherwise the interpreter waits for that process at its exit, without limit, even if the server is gone. A process
    that is left behind ends when this one has ended.
    """

    def end() -> None:
        with suppress(Exception):  # nothing is lost: the block has seen what the server has
            wandb.teardown()

    try:
        yield
    finally:
        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        ending.join(_CLOSE_S)
