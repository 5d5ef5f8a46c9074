"""Reading W&B's offline files, sound and damaged."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_sweeps.tracker.offline_files import Segment, read_records, read_segment, segments_in

BLOCK = 32 * 1024

# One run with a row larger than a block, resumed, and killed the second time once its rows are on the disk.
CLIENT = """
import os, signal, sys, time, wandb
from pathlib import Path
from vae_sweeps.tracker.offline_files import read_segment

lean = wandb.Settings(x_disable_stats=True, x_disable_meta=True, x_save_requirements=False, console="off", silent=True,
                      disable_git=True, disable_code=True, x_disable_machine_info=True, init_timeout=30,
                      finish_timeout=30, x_transaction_log_flush_interval=0.1)

def attempt(**more):
    return wandb.init(mode="offline", entity="somebody", project="vae", id="0a-1b", dir=sys.argv[1], settings=lean,
                      reinit="create_new", **more)

run = attempt(config={"model": {"latent": 2}})
for k in range(40):
    text = "x" * (80_000 if k == 20 else 100 + 40 * k)
    run.log({"val/elbo": -k / 2, "rate": {"inner": {"k": k}}, "nan": float("nan"), "a.b": 1, "text": text}, step=5 * k)
run.finish()
run = attempt(resume="allow")
for k in range(3):
    run.log({"again": k}, step=200 + k, commit=True)
while len(read_segment(Path(run.dir).parent).steps) < 3:
    time.sleep(0.02)
os.kill(os.getpid(), signal.SIGKILL)
"""

Damaged = Callable[[bytes], Segment]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline")
    environment = os.environ | {"WANDB_ERROR_REPORTING": "false"}
    ended = subprocess.run([sys.executable, "-c", CLIENT, str(folder)], env=environment, timeout=60)
    assert ended.returncode == -9
    return folder


@pytest.fixture(scope="module")
def content(work: Path) -> bytes:
    """The bytes of the first segment's file."""
    (file,) = segments_in(work)[0].folder.glob("*.wandb")
    return file.read_bytes()


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows of one segment as they were logged, plus W&B's own keys, which begin with an underscore."""
    return [row(record.history) for record in read_records(folder)[0] if record.HasField("history")]


def row(logged: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in logged.item:
        *parents, name = item.nested_key or [item.key]
        inner = found
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = json.loads(item.value_json)
    return found | {"_step": logged.step.num}


@pytest.fixture
def damaged(tmp_path: Path) -> Damaged:
    """Read a segment whose file has these bytes."""
    folder = tmp_path / "offline-run-20260101_000000-0a-1b"
    folder.mkdir()

    def read(content: bytes) -> Segment:
        (folder / "run-0a-1b.wandb").write_bytes(content)
        segment = read_segment(folder)
        assert [row["_step"] for row in history(folder)] == segment.steps
        assert segment.run_id == "0a-1b"
        return segment

    return read


def test_segments_come_in_order_and_whole(work: Path) -> None:
    first, second = segments_in(work)
    assert first.steps == [5 * k for k in range(40)]
    assert second.steps == [200, 201, 202]
    assert first.folder < second.folder
    for segment in first, second:
        assert segment.is_whole
        assert (segment.entity, segment.project, segment.run_id) == ("somebody", "vae", "0a-1b")


def test_no_segments(tmp_path: Path) -> None:
    assert segments_in(tmp_path) == []
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "offline-run-not-a-folder").touch()
    assert segments_in(tmp_path) == []


def test_history_has_the_logged_rows(work: Path) -> None:
    rows = history(segments_in(work)[0].folder)
    assert len(rows[20]["text"]) == 80_000
    row = {name: value for name, value in rows[3].items() if name not in ("_timestamp", "_runtime", "nan")}
    assert row == {"val/elbo": -1.5, "rate": {"inner": {"k": 3}}, "a.b": 1, "text": "x" * 220, "_step": 15}
    assert rows[3]["nan"] != rows[3]["nan"]


def test_a_file_truncated_anywhere_is_read_up_to_the_cut(content: bytes, damaged: Damaged) -> None:
    whole = damaged(content)
    assert whole.is_whole
    assert len(content) > 4 * BLOCK
    around_blocks = [k * BLOCK + near for k in range(1, 5) for near in range(-9, 10)]
    lengths = sorted({*range(0, len(content), 1501), *around_blocks, *range(len(content) - 300, len(content))})
    found = [damaged(content[:length]) for length in lengths]
    for segment in found:
        assert segment.steps == whole.steps[: len(segment.steps)]
    counts = [len(segment.steps) for segment in found]
    assert counts == sorted(counts)
    assert counts[-1] == len(whole.steps)
    # Whole again only where the cut is between two records, and the last bytes hold few of these.
    assert 1 <= sum(segment.is_whole for segment in found[-300:]) < 10


def test_a_file_truncated_within_a_record_is_not_whole(content: bytes, damaged: Damaged) -> None:
    assert not damaged(content[:-1]).is_whole


@pytest.mark.parametrize("length", [0, 3, 7, 13, 14, 40])
def test_a_file_truncated_at_its_start_is_not_whole(content: bytes, damaged: Damaged, length: int) -> None:
    segment = damaged(content[:length])
    assert segment.steps == []
    assert not segment.is_whole


def test_garbage(content: bytes, damaged: Damaged) -> None:
    whole = damaged(content)
    for begin in range(0, len(content) - 64, 1999):
        segment = damaged(content[:begin] + b"\xa5" * 64 + content[begin + 64 :])
        assert not segment.is_whole
        assert segment.steps == whole.steps[: len(segment.steps)]
    assert not damaged(os.urandom(5000)).is_whole
    assert not damaged(content + b"\0" * 100).is_whole


def test_a_lost_block_is_noticed(content: bytes, damaged: Damaged) -> None:
    """Each piece is intact, but the large row lacks its middle."""
    whole = damaged(content)
    segments = [damaged(content[: k * BLOCK] + content[(k + 1) * BLOCK :]) for k in range(1, 4)]
    assert any(not segment.is_whole and 0 < len(segment.steps) < len(whole.steps) for segment in segments)


def test_folder_without_a_readable_file(tmp_path: Path) -> None:
    folder = tmp_path / "wandb" / "offline-run-20260101_000000-abc"
    folder.mkdir(parents=True)
    assert segments_in(tmp_path) == [Segment(folder, "", "", "", [], is_whole=False)]
    (folder / "run-abc.wandb").mkdir()
    assert segments_in(tmp_path) == [Segment(folder, "abc", "", "", [], is_whole=False)]
    assert history(folder) == []
