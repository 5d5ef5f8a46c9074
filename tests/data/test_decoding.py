"""The cache of decoded images: reuse, resuming after a kill, several processes, changed and damaged files."""

import json
import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT, wait_until
from tests.helpers.drawn_faces import write_celeba
from tests.helpers.image_files import contents, load_celeba, load_folder, write
from vae_sweeps.data.dataset import SPLITS

NAMES = [f"{i}.png" for i in range(20)]
# Loads the images in a separate process, and prints the log messages and the fingerprint.
LOAD = """
import logging, sys
from pathlib import Path
from tests.helpers.image_files import load_celeba
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
print(load_celeba(Path(sys.argv[1]), Path(sys.argv[2]), size=32).fingerprint)
"""


def start_loading(root: Path, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOAD, str(root), str(cache)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def decoding(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Log messages about decoding since the last call, without the folder."""
    said = [record.getMessage().split(": ")[-1] for record in caplog.records if "decoding" in record.getMessage()]
    caplog.clear()
    return said


@pytest.fixture(autouse=True)
def _log_is_captured(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("vae_sweeps"), "propagate", True)
    caplog.set_level(logging.INFO, "vae_sweeps")


def test_files_are_decoded_once_and_again_when_one_has_changed(tmp_path: Path, caplog) -> None:
    root, cache = write(tmp_path / "images", NAMES), tmp_path / "cache"
    first = load_folder(root, cache, size=None)
    assert decoding(caplog) == ["decoding 20 of 20 images into the cache"]
    assert load_folder(root, cache, size=None).fingerprint == first.fingerprint
    assert load_folder(root, cache, size=None, val_share=0.3, seed=1).fingerprint != first.fingerprint
    assert decoding(caplog) == []
    write(root, ["100.png", "5.png"])
    (root / "100.png").unlink()
    changed = load_folder(root, cache, size=None)
    assert decoding(caplog) == ["decoding 20 of 20 images into the cache"]
    assert changed.fingerprint != first.fingerprint
    assert load_folder(root, cache, size=4).image_shape == (3, 4, 4)
    assert decoding(caplog) == ["decoding 20 of 20 images into the cache"]


def test_damaged_files_can_be_skipped_and_are_used_once_repaired(tmp_path: Path, caplog) -> None:
    root, cache = write(tmp_path / "images", NAMES), tmp_path / "cache"
    whole = contents(load_folder(root, cache, size=None))
    good = (root / "4.png").read_bytes()
    (root / "4.png").write_bytes(good[:60])
    with pytest.raises(ValueError, match=r"4\.png: cannot be used"):
        load_folder(root, cache, size=None)
    caplog.clear()
    rest = load_folder(root, cache, size=None, on_bad_file="skip")
    assert [record.getMessage() for record in caplog.records][-1] == f"{root}: skipped 4.png: not complete images"
    assert sum(rest.num_images(split) for split in SPLITS) == 19
    assert all(contents(rest)[split] <= whole[split] for split in SPLITS)
    assert load_folder(root, cache, size=None, on_bad_file="skip").fingerprint == rest.fingerprint
    with pytest.raises(ValueError, match=r"4\.png: cannot be used"):
        load_folder(root, cache, size=None)
    (root / "4.png").write_bytes(good)
    assert contents(load_folder(root, cache, size=None)) == whole


def test_only_one_of_several_threads_decodes(tmp_path: Path, caplog) -> None:
    root, cache = write(tmp_path / "images", NAMES), tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_folder(root, cache).fingerprint, range(4)))
    assert len(set(found)) == 1
    assert [line for line in decoding(caplog) if "into the cache" in line] == [
        "decoding 20 of 20 images into the cache"
    ]


@pytest.mark.slow
def test_after_kill_9_finished_chunks_are_not_decoded_again(tmp_path: Path, caplog) -> None:
    root, cache = tmp_path / "faces", tmp_path / "cache"
    write_celeba(root, 3000)
    process = start_loading(root, cache)

    def journal() -> list[int]:
        found = list(cache.glob("images-*/journal.jsonl"))
        lines = found[0].read_text().splitlines(keepends=True) if found else []
        return [json.loads(line)["start"] for line in lines if line.endswith("\n")]

    wait_until(lambda: len(journal()) > 0, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = journal()
    assert 0 < len(finished) < 12
    expected = load_celeba(root, tmp_path / "undisturbed", size=32)
    for start in finished:  # damaged here, so decoding them again would fail
        for i in range(start, start + 256):
            path = root / "img_align_celeba" / f"{i + 1:06d}.jpg"
            stat = path.stat()
            path.write_bytes(bytes(stat.st_size))
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    decoding(caplog)
    resumed = load_celeba(root, cache, size=32)
    assert decoding(caplog) == [f"decoding {3000 - 256 * len(finished):,} of 3,000 images into the cache"]
    assert resumed.fingerprint == expected.fingerprint
    assert all(torch.equal(resumed.images[split], expected.images[split]) for split in SPLITS)


@pytest.mark.slow
def test_of_two_processes_one_decodes_and_the_other_waits(tmp_path: Path) -> None:
    write_celeba(tmp_path / "faces", 3000)
    processes = [start_loading(tmp_path / "faces", tmp_path / "cache") for _ in range(2)]
    said = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert said[0][-1] == said[1][-1] != ""
    assert sum("decoding 3,000 of 3,000 images into the cache" in line for lines in said for line in lines) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_is_an_error_that_leaves_nothing_behind(refused, tmp_path: Path) -> None:
    root, small = write(tmp_path / "images", NAMES), tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(ValueError, match=f"data.cache={small}: images cannot be stored there .No space left"):
            load_folder(root, small)
        assert not list(small.glob("images-????????????"))
        assert load_folder(root, small, size=8).image_shape == (3, 8, 8)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_cache_folder_that_cannot_be_created(refused, tmp_path: Path) -> None:
    root = write(tmp_path / "images", NAMES)
    (tmp_path / "file").touch()
    line = refused("data=image_folder", f"data.root={root}", f"data.cache={tmp_path / 'file'}")
    assert line.startswith(f"data.cache={tmp_path / 'file'}: images cannot be stored there (")
    assert line.endswith("free disk space, or set data.cache to another folder")


MEMORY = """
import sys, numpy as np, torch, warnings
warnings.simplefilter("ignore")
from vae_sweeps.data.batches import Batches
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.models.build import build_vae
from vae_sweeps.config.compose import compose_command
from vae_sweeps.evaluation.metrics.elbo import evaluate_split
images = torch.from_numpy(np.memmap(sys.argv[1], np.uint8, "r", shape=(200_000, 3, 64, 64)))
splits = {"train": images[40_000:], "val": images[:20_000], "test": images[20_000:40_000]}
dataset = Dataset("x", splits, None, "", is_mapped=True).to(torch.device("cpu"))
vae = build_vae([compose_command(["arch.hidden=[8]", "latent=2"])[0]], (3, 64, 64))
batches = Batches(dataset, 256, torch.float32)
def private():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("RssAnon"))
peak = 0
for step in range(batches.steps_per_epoch):
    batches(step)
    peak = max(peak, private() if step % 20 == 0 else 0)
evaluate_split(vae, dataset, "test", seed=0, batch_size=512, dtype=torch.float32)
print(max(peak, private()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc, which only Linux has")
def test_200_000_images_are_not_held_in_memory(tmp_path: Path) -> None:
    with (tmp_path / "images.u8").open("wb") as file:
        file.truncate(200_000 * 3 * 64 * 64)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "images.u8")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 500
