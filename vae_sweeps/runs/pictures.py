"""The pictures of a run: files in a folder, or members of the archive into which `vae-sweeps clean` packs them."""

import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vae_sweeps.system.logs import warn_once

_ENTRY, _END = 30 + 46, 22  # bytes of an archive: for each file, besides its name, which stands there twice; at the end
_PATH = re.compile(r"(?:epoch-(?P<epoch>\d+)/)?(?P<name>[^/]+)\.png")


@dataclass(frozen=True)
class Picture:
    """A picture file, or the `member` of an archive of pictures."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"

    def read(self) -> bytes:
        """The content of the file. Raises OSError if it cannot be read."""
        if self.member is None:
            return self.path.read_bytes()
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(self.member)
        except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError) as error:
            raise OSError(f"{self}: {error}") from error


def found_in(folder: Path, archive: Path) -> dict[int | None, dict[str, Picture]]:
    """The pictures by epoch and name: first those of the end (epoch None), then those of each epoch, newest first.

    Where the folder and the archive both have a picture, it is that of the folder.
    """
    found: dict[int | None, dict[str, Picture]] = {}
    for name, picture in [*_packed(archive), *_in_folder(folder)]:
        if (parts := _PATH.fullmatch(name)) is not None:
            epoch = None if parts["epoch"] is None else int(parts["epoch"])
            found.setdefault(epoch, {})[parts["name"]] = picture
    return {epoch: found[epoch] for epoch in sorted(found, key=lambda e: (e is not None, -(e or 0)))}


def found_at(place: Path, archive: Path, prefix: str) -> dict[str, Picture]:
    """The pictures in one folder, and those of the archive whose names are `prefix` and a name, by that name."""
    packed = {name.removeprefix(prefix): picture for name, picture in _packed(archive) if name.startswith(prefix)}
    files = {path.name: Picture(path) for path in _plain_files(place.glob("*.png"))}
    return {Path(name).stem: picture for name, picture in (packed | files).items() if "/" not in name}


def _packed(archive: Path) -> Iterator[tuple[str, Picture]]:
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
    except FileNotFoundError:
        return
    except (OSError, zipfile.BadZipFile) as error:
        warn_once(f"{archive}: cannot be read, so its pictures are left out ({error})")
        return
    yield from ((name, Picture(archive, name)) for name in names)


def _in_folder(folder: Path) -> Iterator[tuple[str, Picture]]:
    yield from ((path.relative_to(folder).as_posix(), Picture(path)) for path in files_in(folder))


def files_in(folder: Path) -> list[Path]:
    """The files in the folder and in its folders of epochs."""
    return _plain_files([*folder.glob("*"), *folder.glob("epoch-*/*")])


def _plain_files(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def packed(folder: Path, archive: Path) -> bytes:
    """The archive with the files of the folder added. Raises OSError if a file, or what it holds, cannot be read."""
    pictures = dict([*_packed(archive), *_in_folder(folder)])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as new:  # not compressed, since PNG files are
        for name, picture in pictures.items():
            new.writestr(name, picture.read())
    return content.getvalue()


def packed_size(folder: Path, archive: Path) -> int:
    """The size of `packed` in bytes, without reading a picture; pictures that the archive has already count twice."""
    files = files_in(folder)
    entries = sum(path.stat().st_size + _ENTRY + 2 * len(path.relative_to(folder).as_posix()) for path in files)
    return entries + (archive.stat().st_size if archive.exists() else _END)
