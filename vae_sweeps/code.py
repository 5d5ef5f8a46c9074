"""Which code runs: its commit, and what is changed beside it."""

import subprocess
from functools import lru_cache
from pathlib import Path


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of the code that runs, with -dirty if tracked files were changed; None outside a checkout."""
    try:
        is_dirty = bool(_git("status", "--porcelain", "-uno").strip())
        return _git("rev-parse", "--short=12", "HEAD").strip() + ("-dirty" if is_dirty else "")
    except (OSError, subprocess.SubprocessError):
        return None


@lru_cache(maxsize=1)
def diff() -> str:
    """What tracked files differ in from the commit; empty if in nothing, or outside a checkout."""
    try:
        return _git("diff", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return ""
