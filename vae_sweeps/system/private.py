"""Folders and files that only their user may read and write: submitit's pickles, and scripts with secrets."""

import os
import stat
from pathlib import Path

from vae_sweeps.system.files import write_whole

_OTHERS = 0o077
_OTHERS_WRITE = 0o022

# submitit leaves such a link to each script, under a name that nothing opens again.
_LINK = ".submission_file_"


def check(folder: Path) -> None:
    """Raise ValueError if others own or can write to `folder` or its files. It need not exist.

    What is in such a folder is run: job scripts, and pickles. submitit opens its files by predictable names, so links
    to files elsewhere are refused too.
    """
    try:
        mode = _checked(folder, (stat.S_ISDIR,))
    except FileNotFoundError:
        return
    for path in folder.iterdir():
        kinds = (stat.S_ISREG, stat.S_ISLNK) if path.name.startswith(_LINK) else (stat.S_ISREG,)
        _checked(path, kinds, is_open_to_others=bool(mode & _OTHERS))


def _checked(path: Path, kinds: tuple, *, is_open_to_others: bool = True) -> int:
    """The mode of `path`, if it is of one of `kinds`, the user's own, and not writable by others."""
    found = path.lstat()
    if not any(is_kind(found.st_mode) for is_kind in kinds):
        raise ValueError(f"{path}: must not be a link or of another kind; {_ADVICE}")
    if found.st_uid != os.geteuid():
        raise ValueError(f"{path}: belongs to user {found.st_uid}, not to you; {_ADVICE}")
    can_be_written = found.st_mode & _OTHERS_WRITE and not stat.S_ISLNK(found.st_mode)
    if is_open_to_others and can_be_written:
        raise ValueError(f"{path}: others may write to it, and jobs run what it holds; {_ADVICE}")
    return found.st_mode


_ADVICE = "remove it if you do not need it, or choose another output_dir"


def own(path: Path) -> Path:
    """`path`, or where another user has it, a path beside it that ends in this user's number.

    So people who share an output folder each have files of their own that only they can read.
    """
    try:
        is_anothers = path.lstat().st_uid != os.geteuid()
    except OSError:  # there is none yet, or whoever uses it gets to know why it cannot be had
        return path
    return path.with_name(f"{path.stem}-{os.geteuid()}{path.suffix}") if is_anothers else path


def make_folder(folder: Path) -> None:
    """Create the folder with mode 0700, or give it this mode. Raises ValueError as `check` does."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    check(folder)
    folder.chmod(0o700)


def close_files(folder: Path) -> None:
    """Give the scripts and pickles in `folder` mode 0600, and remove the links that submitit leaves to scripts."""
    for path in folder.iterdir():
        if path.is_symlink():
            if path.name.startswith(_LINK):
                path.unlink(missing_ok=True)
        elif path.suffix in (".sh", ".pkl"):
            path.chmod(0o600)


def write(path: Path, text: str) -> None:
    """Write a file that only the user can read, atomically."""
    write_whole(path, text, mode=0o600)
