"""The code that runs: its commit, its uncommitted changes, and copies of it for jobs."""

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from vae_sweeps.system import files


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=files.ROOT, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of the running code, with -dirty if tracked files have changed; None outside a checkout."""
    try:
        is_dirty = bool(_git("status", "--porcelain", "-uno").strip())
        return _git("rev-parse", "--short=12", "HEAD").strip() + ("-dirty" if is_dirty else "")
    except (OSError, subprocess.SubprocessError):
        return None


@lru_cache(maxsize=1)
def diff() -> str:
    """The diff between the tracked files and the commit; empty outside a checkout."""
    try:
        return _git("diff", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return ""


def snapshot(folder: Path, source: Path) -> Path:
    """Copy the tracked files of `source`, as they are now, into a folder in `folder` that is named by their content."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, capture_output=True, check=True).stdout
    tracked = [Path(name) for name in listed.decode().split("\0") if name and (source / name).is_file()]
    target = folder / files.content_hash([source / name for name in tracked])
    if not target.exists():
        aside = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        for name in tracked:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, aside / name)
        aside.rename(target)
    return target.resolve()
