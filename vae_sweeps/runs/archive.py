"""One file with a whole sweep: its list of points, its results and its runs. Does not import torch."""

import contextlib
import gzip
import hashlib
import io
import json
import lzma
import secrets
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vae_sweeps.runs import states
from vae_sweeps.runs.run_folder import RunFolder, runs_folder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system.logs import first_line

_MANIFEST = "manifest.json"
_MODULES: dict[str, Any] = {"gz": gzip, "xz": lzma}
_KINDS = {".tar": "", ".gz": "gz", ".xz": "xz", ".zst": "zst"}
_BLOCK_BYTES = 1 << 20


def write(sweep: SweepFolder, path: Path) -> int:
    """Write the sweep into one new file; returns how many files are in it.

    Files of jobs, copies of code and claims are left out. Raises ValueError if the sweep still moves, if the file
    exists, or if its name has another ending than .tar, .tar.gz, .tar.xz or .tar.zst.
    """
    kind = _kind_of(path)
    if path.exists():
        raise ValueError(f"{path}: exists already; choose another name, or remove it")
    (points,) = states.of_sweeps([sweep])
    if states.is_moving(points):
        raise ValueError(f"{sweep.name}: {states.counts(points)}; archive it when nothing runs or waits any more")
    paths = {_name_of(file, sweep.output_dir): file for file in _files_of(sweep)}
    manifest = {
        "vae_sweeps": metadata.version("vae-sweeps"),
        "sweep": sweep.path.name,
        "files": {name: _sum_of(file) for name, file in paths.items()},
    }
    prepared = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with (
            prepared.open("xb") as raw,
            _compressing(raw, kind) as stream,
            tarfile.open(fileobj=stream, mode="w|") as tar,
        ):
            content = json.dumps(manifest, indent=1).encode()
            about = tarfile.TarInfo(_MANIFEST)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
            for name, file in paths.items():
                member = tar.gettarinfo(file, name)
                member.uid, member.gid, member.uname, member.gname, member.mode = 0, 0, "", "", 0o644
                member.mtime = int(member.mtime)  # fractions would stand in a header of their own, without a checksum
                with file.open("rb") as opened:
                    tar.addfile(member, opened)
        prepared.replace(path)
    finally:
        prepared.unlink(missing_ok=True)
    return len(paths)


def unpack(path: Path, output_dir: Path) -> tuple[SweepFolder, list[str], list[str]]:
    """Put the sweep of an archive into an output folder; returns it, and the names of its new runs and of known ones.

    Runs that are there already stay as they are. Every file is compared with its checksum before anything is put into
    its place. Raises ValueError if the file is not such an archive, or is damaged.
    """
    kind = _kind_of(path)
    output_dir.mkdir(parents=True, exist_ok=True)
    staging = output_dir / f".unpacked.{secrets.token_hex(8)}.tmp"
    try:
        with (
            path.open("rb") as raw,
            _decompressing(raw, kind) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            name = _extract(tar, staging)
            while stream.read(_BLOCK_BYTES):  # the checksum of the compression stands at its end
                pass
    except (tarfile.TarError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, FileNotFoundError) and not path.exists():
            raise ValueError(f"{path}: no such file") from None
        raise ValueError(
            f"{path}: not a whole archive of a sweep: {first_line(error)}; nothing was unpacked"
        ) from error
    try:
        return _put_in_place(staging, output_dir, name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _files_of(sweep: SweepFolder) -> Iterator[Path]:
    """The files of a sweep and of its runs that say something about them, and nothing private."""
    own = (sweep.launches, sweep.halving, sweep.study, sweep.table, sweep.mosaic, sweep.report)
    yield from sorted([*sweep.points.glob("*.json"), *sweep.rungs.glob("*.json")])
    yield from filter(Path.is_file, own)
    for run in sweep.runs():
        of_run = (run.config, run.launch_options, run.code_diff, run.source, run.rows, run.result, run.failure, run.log)
        of_model = (run.checkpoint, run.previous_checkpoint, run.packed_pictures, run.wandb_address)
        pictures = sorted(run.pictures.rglob("*")) if run.pictures.is_dir() else []
        yield from (file for file in (*of_run, *of_model, *pictures) if file.is_file() and not file.is_symlink())


def _name_of(file: Path, output_dir: Path) -> str:
    return file.relative_to(output_dir).as_posix()


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _extract(tar: tarfile.TarFile, staging: Path) -> str:
    """Extract all files into a new folder; returns the sweep's name. Raises ValueError for anything unexpected."""
    first = tar.next()
    if first is None or first.name != _MANIFEST or (opened := tar.extractfile(first)) is None:
        raise ValueError("it has no manifest")
    manifest: Mapping[str, Any] = json.loads(opened.read())
    name, expected = str(manifest["sweep"]), dict(manifest["files"])
    while (member := tar.next()) is not None:
        parts = PurePosixPath(member.name).parts
        is_inside = len(parts) > 2 and ".." not in parts and (parts[0] == "runs" or parts[:2] == ("sweeps", name))
        if not member.isreg() or not is_inside or member.name not in expected:
            raise ValueError(f"{member.name}: does not belong into it")
        target, opened = staging / member.name, tar.extractfile(member)
        assert opened is not None
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with target.open("xb") as file:
            while block := opened.read(_BLOCK_BYTES):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != expected.pop(member.name):
            raise ValueError(f"{member.name}: does not match its checksum")
    if expected:
        raise ValueError(f"{next(iter(expected))}: is missing")
    return name


def _put_in_place(staging: Path, output_dir: Path, name: str) -> tuple[SweepFolder, list[str], list[str]]:
    new, known = list[str](), list[str]()
    for source in sorted(runs_folder(staging).iterdir()) if runs_folder(staging).is_dir() else ():
        target = RunFolder.under(output_dir, source.name)
        if target.path.exists():
            known.append(target.name)
            continue
        target.path.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target.path)
        new.append(target.name)
    here, there = SweepFolder.under(staging, name), SweepFolder.under(output_dir, name)
    if there.path.exists():  # its list of points grows, and its own files stay
        there.points.mkdir(exist_ok=True)
        for file in here.points.iterdir():
            if not (there.points / file.name).exists():
                file.rename(there.points / file.name)
    else:
        there.path.parent.mkdir(parents=True, exist_ok=True)
        here.path.rename(there.path)
    return there, new, known


def _kind_of(path: Path) -> str:
    if path.suffix in _KINDS and (path.suffix == ".tar" or path.stem.endswith(".tar")):
        return _KINDS[path.suffix]
    raise ValueError(f"{path}: must end in .tar, .tar.gz, .tar.xz or .tar.zst")


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise ValueError("zstandard is not installed: pip install 'vae-sweeps[archive]', or use .tar.xz") from None
    return zstandard


@contextlib.contextmanager
def _compressing(raw: IO[bytes], kind: str) -> Iterator[IO[bytes]]:
    if kind == "zst":
        with _zstandard().ZstdCompressor(level=6, threads=-1).stream_writer(raw, closefd=False) as stream:
            yield stream
    elif kind:
        with _MODULES[kind].open(raw, "wb") as stream:
            yield stream
    else:
        yield raw


@contextlib.contextmanager
def _decompressing(raw: IO[bytes], kind: str) -> Iterator[IO[bytes]]:
    if kind == "zst":
        zstandard = _zstandard()
        try:
            with zstandard.ZstdDecompressor().stream_reader(raw, closefd=False) as stream:
                yield stream
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
    elif kind:
        try:
            with _MODULES[kind].open(raw, "rb") as stream:
                yield stream
        except (lzma.LZMAError, zlib.error) as error:
            raise ValueError(str(error)) from error
    else:
        yield raw
