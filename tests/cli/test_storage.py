"""`vae-sweeps archive`, `unpack` and `gc`."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import vae_sweeps
from tests.conftest import Ended, ended_command
from tests.helpers.written_sweep import RUNS, write_sweep
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import cache, lease

Command = Callable[..., Ended]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return lambda *arguments: ended_command(capsys, *arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def archived(command: Command, output_dir: Path, ending: str) -> Path:
    """Write a sweep into the output folder, and its archive beside that."""
    file = output_dir.with_name(f"sweep{ending}")
    write_sweep(output_dir)
    assert command("archive", "grid", file, "--output-dir", output_dir).code == 0
    return file


@pytest.mark.parametrize("ending", [".tar.zst", ".tar.xz", ".tar.gz", ".tar"])
def test_what_was_archived_can_be_unpacked_elsewhere(command: Command, tmp_path: Path, ending: str) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / f"sweep{ending}"
    sweep = write_sweep(here)
    before = contents(here)
    ended = command("archive", "grid", file, "--output-dir", here)
    assert (ended.code, ended.err) == (0, "")
    assert contents(here) == before
    unpacked = command("unpack", file, "--output-dir", there)
    assert (unpacked.code, unpacked.err) == (0, "")
    assert unpacked.out == f"{there / 'sweeps' / 'grid'}: {len(RUNS)} new runs\n"
    assert contents(there) == before
    pd.testing.assert_frame_equal(vae_sweeps.results(there / "sweeps" / "grid"), vae_sweeps.results(sweep.path))


def test_runs_that_are_there_stay_as_they_are(command: Command, tmp_path: Path) -> None:
    there, file = tmp_path / "there", archived(command, tmp_path / "here", ".tar")
    assert command("unpack", file, "--output-dir", there).code == 0
    (run, *_) = sorted((there / "runs").iterdir())
    (run / "log.txt").write_text("mine")
    again = command("unpack", file, "--output-dir", there)
    assert again.out == f"{there / 'sweeps' / 'grid'}: 0 new runs, {len(RUNS)} were there already\n"
    assert (run / "log.txt").read_text() == "mine"


def test_private_files_and_claims_are_left_out(command: Command, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "here")
    for path in (
        sweep.jobs / "settings.json",
        sweep.submissions,
        sweep.code / "x" / "y.py",
        sweep.runs()[0].path / ".claim-1" / "owner.json",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    assert command("archive", "grid", tmp_path / "sweep.tar", "--output-dir", tmp_path / "here").code == 0
    assert b"secret" not in (tmp_path / "sweep.tar").read_bytes()


def test_a_running_sweep_and_an_existing_file_are_refused(command: Command, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path)
    (tmp_path / "old.tar").touch()
    for name, line in (("old.tar", "exists already"), ("new.zip", "must end in .tar, .tar.gz, .tar.xz or .tar.zst")):
        ended = command("archive", "grid", tmp_path / name, "--output-dir", tmp_path)
        assert ended.code == 2
        assert line in ended.err
    held = lease.take(sweep.runs()[-1].path)
    assert held is not None
    with held:
        ended = command("archive", "grid", tmp_path / "new.tar", "--output-dir", tmp_path)
    assert ended.code == 2
    assert "1 running" in ended.err
    assert not (tmp_path / "new.tar").exists()


def forged(
    path: Path, members: dict[str, bytes], *, links: tuple[str, ...] = (), names: tuple[str, ...] | None = None
) -> Path:
    """An archive with these files, and a manifest that names them."""
    sums = {name: hashlib.sha256(members.get(name, b"")).hexdigest() for name in (names or (*members, *links))}
    manifest = json.dumps({"sweep": "grid", "files": sums}).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in {"manifest.json": manifest, **members}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
            tar.addfile(member)
    return path


@pytest.mark.parametrize(
    ("members", "links", "line"),
    [
        ({"runs/../../escaped/x": b"x"}, (), "does not belong into it"),
        ({"/tmp/escaped/x/y": b"x"}, (), "does not belong into it"),
        ({"sweeps/other/points/x": b"x"}, (), "does not belong into it"),
        ({"elsewhere/a/b": b"x"}, (), "does not belong into it"),
        ({}, ("runs/a/link",), "does not belong into it"),
    ],
)
def test_a_strangers_archive_writes_nothing_outside(
    command: Command, tmp_path: Path, members, links, line: str
) -> None:
    file = forged(tmp_path / "bad.tar", members, links=links)
    ended = command("unpack", file, "--output-dir", tmp_path / "there")
    assert ended.code == 2
    assert line in ended.err
    assert "nothing was unpacked" in ended.err
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("ending", [".tar.zst", ".tar.xz", ".tar.gz", ".tar"])
def test_damage_is_named_and_nothing_is_unpacked(command: Command, tmp_path: Path, ending: str) -> None:
    file = archived(command, tmp_path / "here", ending)
    data = file.read_bytes()
    for damaged in (data[: len(data) // 2], b""):
        file.write_bytes(damaged)
        ended = command("unpack", file, "--output-dir", tmp_path / "there")
        assert ended.code == 2
        assert ended.err.startswith(f"error: {file}: not a whole archive of a sweep: ")
        assert list((tmp_path / "there").iterdir()) == []
    assert command("unpack", tmp_path / "none.tar", "--output-dir", tmp_path).err.strip().endswith("no such file")


@pytest.mark.parametrize("ending", [".tar.zst", ".tar.xz", ".tar.gz", ".tar"])
def test_a_flipped_bit_is_named_or_changes_no_file(command: Command, tmp_path: Path, ending: str) -> None:
    file = archived(command, tmp_path / "here", ending)
    data = file.read_bytes()
    whole, refused = contents(tmp_path / "here"), 0
    for position in range(len(data) // 100, len(data), len(data) // 50):
        there = tmp_path / f"{position}"
        file.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        ended = command("unpack", file, "--output-dir", there)
        refused += ended.code == 2
        assert contents(there) == (whole if ended.code == 0 else {})
    assert refused >= 10  # the others are padding, or what nobody reads


@pytest.fixture
def with_orphan(tmp_path: Path) -> RunFolder:
    """A run of no sweep, beside a sweep."""
    (run, *_) = write_sweep(tmp_path).runs()
    orphan = RunFolder.under(tmp_path, "orphan-0123456789ab")
    orphan.path.mkdir()
    for path in (run.config, run.result):
        (orphan.path / path.name).write_bytes(path.read_bytes())
    orphan.previous_checkpoint.write_bytes(bytes(1000))
    return orphan


def test_gc_takes_runs_of_no_sweep_only_and_only_when_told(
    command: Command, tmp_path: Path, with_orphan: RunFolder
) -> None:
    before = contents(tmp_path)
    ended = command("gc", "--days", "0", "--output-dir", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "runs of no sweep: 1" in ended.out
    assert contents(tmp_path) == before
    assert "runs of no sweep: 0" in command("gc", "--output-dir", tmp_path).out  # it has just changed
    assert command("gc", "--days", "0", "--delete", "--output-dir", tmp_path).code == 0
    gone = {name for name in before if name.startswith(f"runs/{with_orphan.name}/")}
    assert gone
    assert contents(tmp_path) == {name: data for name, data in before.items() if name not in gone}


def test_gc_keeps_runs_if_told_and_takes_their_previous_checkpoints(
    command: Command, tmp_path: Path, with_orphan: RunFolder
) -> None:
    assert command("gc", "--days", "0", "--delete", "--keep-runs", "--output-dir", tmp_path).code == 0
    assert with_orphan.result.exists()
    assert not with_orphan.previous_checkpoint.exists()


def test_gc_leaves_alone_what_a_process_works_on(command: Command, tmp_path: Path, with_orphan: RunFolder) -> None:
    held = lease.take(with_orphan.path)
    assert held is not None
    with held:
        assert command("gc", "--days", "0", "--delete", "--output-dir", tmp_path).code == 0
    assert with_orphan.result.exists()


def test_gc_takes_nothing_where_a_list_of_points_is_damaged(
    command: Command, tmp_path: Path, with_orphan: RunFolder
) -> None:
    (points,) = (tmp_path / "sweeps" / "grid" / "points").iterdir()
    points.write_bytes(points.read_bytes()[:-30])
    ended = command("gc", "--days", "0", "--delete", "--output-dir", tmp_path)
    assert ended.code == 2
    assert "damaged" in ended.err
    assert with_orphan.result.exists()


def test_gc_takes_decoded_images(command: Command, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = cache.folder() / "images-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "images.u8").write_bytes(bytes(100))
    (cache.folder() / "classifier-0123.bin").write_bytes(bytes(100))
    assert "decoded images in the cache: 1" in command("gc", "--days", "0", "--output-dir", tmp_path).out
    assert command("gc", "--days", "0", "--delete", "--output-dir", tmp_path).code == 0
    assert [path.name for path in cache.folder().iterdir()] == ["classifier-0123.bin"]
