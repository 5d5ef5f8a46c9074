"""The source of the user's own parts that a run was made with: kept in its folder, and compared with today's."""

import io
import zipfile
from collections.abc import Mapping

from vae_sweeps.config import source
from vae_sweeps.config.schema import Point
from vae_sweeps.config.trust import targets_with_source
from vae_sweeps.runs.run_folder import RunFolder

# Zip files hold a time, and equal files should be equal.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def packed(files: Mapping[str, bytes]) -> bytes:
    """The bytes of a zip file of `files`, which are the same for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def kept(run: RunFolder) -> dict[str, bytes]:
    """The files that the run was made with, by name; empty if it has no parts of the user's own, or lost them."""
    try:
        with zipfile.ZipFile(run.source) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return {}


def check(run: RunFolder, point: Point) -> None:
    """Raise ValueError, which names the files, if the source of the run's own parts has changed since the launch."""
    before = run.source_digest()
    if not before:
        return
    now = source.files_of(targets_with_source(point))
    if source.digest_of(now) == before:
        return
    changed = source.differences(kept(run), now)
    raise ValueError(
        f"{run.name}: the code of its own parts has changed since the launch ({', '.join(changed) or 'all of it'}); "
        f"the files of that time are in {run.source}: put them back to use this run, or launch again for a new run"
    )
