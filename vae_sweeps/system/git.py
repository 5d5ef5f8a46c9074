"""The code that runs: its commit, its uncommitted changes, and copies of it for jobs."""

import shutil
import subprocess
import uuid
from functools import lru_cache
from pathlib import Path

from vae_sweeps.system import files

# A file in a copy of the code, which holds the commit that was copied.
_COMMIT_OF_COPY = ".commit-of-copy"


def _git(*arguments: str, source: Path = files.ROOT) -> str:
    done = subprocess.run(["git", *arguments], cwd=source, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of the running code, with -dirty if tracked files have changed; None outside a checkout.

    For a copy that `snapshot` made, the commit at the time of the copy.
    """
    recorded = files.ROOT / _COMMIT_OF_COPY
    return (recorded.read_text().strip() or None) if recorded.is_file() else commit_of(files.ROOT)


def commit_of(source: Path) -> str | None:
    try:
        is_dirty = bool(_git("status", "--porcelain", "-uno", source=source).strip())
        return _git("rev-parse", "--short=12", "HEAD", source=source).strip() + ("-dirty" if is_dirty else "")
    except (OSError, subprocess.SubprocessError):
        return None


@lru_cache(maxsize=1)
def diff() -> str:
    """The diff between the tracked files and the commit, as `diff_of` gives it; empty outside a checkout."""
    return diff_of(files.ROOT)


def diff_of(source: Path) -> str:
    """The diff of a checkout without `conf/`: a run's config.yaml has its values, and the others may hold secrets."""
    try:
        return _git("diff", "HEAD", "--", ".", ":(exclude)conf", source=source)
    except (OSError, subprocess.SubprocessError):
        return ""


def is_snapshot(path: Path) -> bool:
    """Whether `path` is a copy that `snapshot` made."""
    return (path / _COMMIT_OF_COPY).is_file() and not path.is_symlink()


def snapshot(folder: Path, source: Path) -> Path:
    """Copy the files of `source`, as they are now, into a new folder in `folder`, with their commit.

    They are those that git tracks, and new modules of the package. Other new files stay away: they may hold secrets.
    An existing copy is not used again: it is in an output folder, which may come from someone else.
    """
    recorded = commit_of(source) or ""
    tracked = _git("ls-files", "-z", source=source)
    new = _git("ls-files", "-z", "--others", "--exclude-standard", "--", "vae_sweeps/*.py", source=source)
    unique = uuid.uuid4().hex[:8]
    aside = folder / f".{unique}.tmp"
    aside.mkdir(parents=True)
    try:
        for name in map(Path, filter(None, (tracked + new).split("\0"))):
            if (source / name).is_file():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, aside / name)
        (aside / _COMMIT_OF_COPY).write_text(recorded)
        return aside.rename(folder / f"{recorded}-{unique}").resolve()
    finally:
        shutil.rmtree(aside, ignore_errors=True)
