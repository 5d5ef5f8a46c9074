"""The memory that this process may use: limits of cgroups, and a limit of its own that raises an error."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from tests.helpers.cgroups import limited_to
from vae_sweeps.system import cgroups, machine, memory

V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
)
V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "root", "expected"),
    [
        ("0::/user.slice/a", V2, "/", ["user.slice/a", "user.slice", "."]),
        ("0::/", V2, "/", ["."]),
        ("0::/../other", V2, "/", ["."]),  # outside of this namespace
        ("5:cpu,memory:/jobs/7\n0::/", V1, "/", ["memory/jobs/7", "memory/jobs", "memory"]),
        ("4:memory:/docker/abc\n1:cpu:/docker/abc", V1, "/docker/abc", ["memory"]),
        ("4:memory:/docker/abc/x", V1, "/docker/abc", ["memory/x", "memory"]),
        ("4:memory:/elsewhere", V1, "/docker/abc", ["memory"]),
        ("1:cpu:/jobs/7", V1, "/", []),
        ("", V2, "/", []),
    ],
)
def test_the_cgroups_of_this_process(cgroup: str, mounts: str, root: str, expected: list[str]) -> None:
    folders = cgroups._from_files(cgroup, mounts.format(root=root), "memory")
    assert [folder.relative_to("/sys/fs/cgroup").as_posix() for folder in folders] == expected


def test_the_limit_of_a_real_cgroup_counts_as_the_memory() -> None:
    code = "from vae_sweeps.system import memory as m; print(m.memory_bytes(), m.total_bytes(), m.available_bytes())"
    with limited_to(300_000_000) as inside:
        done = subprocess.run(inside(sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=True)
    memory_bytes, total, available = map(float, done.stdout.split())
    assert 299_990_000 < memory_bytes == total <= 300_000_000
    assert 200_000_000 < available < 300_000_000


def test_without_a_limit_packs_may_use_half_of_the_physical_memory() -> None:
    if memory.cgroup_limit() is not None:
        pytest.skip("these tests run in a cgroup with a limit")
    assert machine.memory_for_packs(torch.device("cpu")) == memory._physical_bytes() / 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process may allocate")
def test_beyond_a_limit_allocating_is_an_error_and_the_limit_ends(tmp_path: Path) -> None:
    with (tmp_path / "mapped").open("wb") as file:
        file.truncate(1_000_000_000)
    line = r"^needs more than 0\.3 GB, which this process could get$"
    with memory.limited(3e8):
        assert torch.ones(10_000_000).sum() == 10_000_000
        assert np.memmap(tmp_path / "mapped", np.uint8, "r")[-1] == 0  # files are not counted
    with pytest.raises(MemoryError, match=line), memory.limited(3e8):
        torch.ones(100_000_000)
    with pytest.raises(MemoryError), memory.limited(3e8):
        bytearray(400_000_000)
    assert torch.ones(100_000_000).sum() == 100_000_000
    with pytest.raises(RuntimeError, match="another"), memory.limited(3e8):
        raise RuntimeError("another")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process may allocate")
def test_a_first_product_beyond_the_limit_does_not_end_the_process() -> None:
    """OpenBLAS takes 34 MB with the first product, and exits if it cannot: the limit may not leave that to chance."""
    code = """
import numpy as np
from vae_sweeps.system import memory

with memory.limited(8e6):
    assert (np.ones((2, 2)) @ np.ones((2, 2)) == 2).all()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process may allocate")
def test_products_of_several_threads_beyond_the_limit_do_not_end_the_process() -> None:
    """OpenBLAS takes 34 MB more where products overlap, as those of pictures that are drawn while a pack trains."""
    code = """
import threading
import numpy as np
from vae_sweeps.system import memory

threading.stack_size(1 << 18)
factor, results = np.ones((700, 700)), [np.empty((700, 700)) for _ in range(4)]
threads = [threading.Thread(target=np.matmul, args=(factor, factor, result)) for result in results]
with memory.limited(8e6):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert all((result == 700).all() for result in results)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
