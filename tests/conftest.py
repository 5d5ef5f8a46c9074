"""Helpers for all tests: points composed from the real conf/, small datasets, and commands."""

import atexit
import logging
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from tests.helpers import ROOT
from tests.helpers.processes import Zygote
from vae_sweeps.cli import app
from vae_sweeps.config.compose import CONF, compose_sweep, register_schemas
from vae_sweeps.config.launch_options import LaunchOptions
from vae_sweeps.config.point import to_command
from vae_sweeps.config.schema import Point
from vae_sweeps.data.dataset import Dataset, fingerprint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import before_torch

# The tests must not depend on the contents of the developer's cache. All workers of pytest-xdist share one, which their
# parent makes, so that what a data set needs is trained once.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="vae-sweeps-tests-")
    os.environ["XDG_CACHE_HOME"] = _CACHE.name

# Nor must they depend on the developer's W&B settings and API key.
for _name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[_name]
_HOME = os.environ["XDG_CACHE_HOME"]
os.environ |= {"NETRC": f"{_HOME}/netrc", "WANDB_CONFIG_DIR": f"{_HOME}/wandb"}

before_torch.prepare()  # torch is imported already, but MKL reads its setting at the first product
torch.set_num_threads(1)  # the models of the tests are tiny, and more threads would only slow them down


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} sees no GPU")


@cache
def _config_loader() -> ConfigLoader:
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return GlobalHydra.instance().config_loader()


@cache
def _config() -> DictConfig:
    return _config_loader().load_configuration("config", [], run_mode=RunMode.MULTIRUN)


_BASES: dict[tuple[str, ...], bytes] = {}


@cache
def _command(*overrides: str) -> tuple[Point, LaunchOptions]:
    """Composed as a sweep composes its points, which takes a twentieth of the time where the groups are known."""
    (cfg,) = compose_sweep(_config_loader(), _config(), [overrides], _BASES)
    return to_command(cfg)


def make_point(*overrides: str) -> Point:
    """The point that these overrides of conf/ describe."""
    return _command(*overrides)[0]


def make_options(*overrides: str) -> LaunchOptions:
    """The launch options that these overrides of conf/ describe."""
    return _command(*overrides)[1]


def make_dataset(
    shape: Sequence[int] = (1, 8, 8), sizes: tuple[int, int, int] = (70, 24, 24), *, seed: int = 0, **more: object
) -> Dataset:
    """A dataset of random images, each a blend of two of ten fixed patterns."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randint(0, 256, (10, *shape), generator=generator).float()
    images = {}
    for split, size in zip(("train", "val", "test"), sizes, strict=True):
        first, second = torch.randint(0, 10, (2, size), generator=generator)
        blend = torch.rand(size, 1, 1, 1, generator=generator)
        images[split] = (blend * patterns[first] + (1 - blend) * patterns[second]).to(torch.uint8)
    return Dataset("random", images, None, fingerprint(images, None), **more)  # type: ignore[arg-type]


def float_dataset(train: torch.Tensor, val: torch.Tensor, test: torch.Tensor) -> Dataset:
    """A dataset of vectors [N,D], which are already on the model's scale, as images [N,1,1,D]."""
    images = {name: x[:, None, None, :] for name, x in (("train", train), ("val", val), ("test", test))}
    return Dataset("vectors", images, None, fingerprint(images, None))


@pytest.fixture(scope="session", autouse=True)
def _quiet_environment() -> None:
    os.environ.pop("HYDRA_FULL_ERROR", None)


@pytest.fixture
def in_folders(tmp_path: Path) -> Callable[[int, str], list[RunFolder]]:
    """Create `n` empty run folders."""

    def make(n: int, name: str = "run") -> list[RunFolder]:
        folders = [RunFolder(tmp_path / f"{name}{k}") for k in range(n)]
        for folder in folders:
            folder.path.mkdir()
        return folders

    return make


def start_launch(
    *arguments: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start `python launch.py ...` in a new process with one thread."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@cache
def _zygote() -> Zygote:
    zygote = Zygote(Path(_HOME) / f"commands-{os.getpid()}", draws=True)
    atexit.register(zygote.close)
    return zygote


def _run(
    program: str, *arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    running = _zygote().start(program, *arguments, cwd=cwd, environment=environment, splits_errors=True)
    ended = running.wait(1200)
    return subprocess.CompletedProcess(
        [program, *map(str, arguments)], ended.code, ended.output, running.errors.read_text()
    )


def launch(
    *arguments: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python launch.py ...` and wait for it to end.

    Its process is forked from one that has made all imports, as these take half of the time of a small launch.
    """
    return _run("launch.py", *arguments, cwd=cwd, environment=environment)


def vs(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `vae-sweeps ...` as `launch` does."""
    return _run("vae-sweeps", *arguments)


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[str] | None = None, timeout_s: float = 120
) -> None:
    """Poll until `condition()` is true; fails if the process, if there is one, ends first."""
    end = time.monotonic() + timeout_s
    while not condition():
        if process is not None:
            assert process.poll() is None, f"the process ended with {process.returncode} before the condition was true"
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.02)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Door = Callable[..., Ended]


def launch_here(*arguments: str, traceback: bool = False) -> int:
    """`python launch.py ...` as the main module of this process; returns its exit code."""
    package = logging.getLogger("vae_sweeps")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("handlers", []), ("propagate", package.propagate), ("level", package.level)):
            patch.setattr(package, name, value)
        patch.setenv("HYDRA_FULL_ERROR", str(int(traceback)))  # launch.py sets it to 1
        patch.setattr(sys, "argv", ["launch.py", *arguments])
        GlobalHydra.instance().clear()
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(ROOT / "launch.py"), run_name="__main__")
        finally:
            GlobalHydra.instance().clear()
    return 0 if ended.value.code is None else int(ended.value.code)


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Door]:
    """Run launch.py as the main module of this process, in an empty folder that must stay empty."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(*arguments: str, traceback: bool = False) -> Ended:
        capsys.readouterr()
        code = launch_here(*arguments, traceback=traceback)
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    yield run
    assert list(work.iterdir()) == []


@pytest.fixture
def refused(door: Door, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail with one error line and must not write anything; returns the line."""

    def written() -> list[Path]:
        return sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts)  # which Python writes

    def run(*arguments: str) -> str:
        before = written()
        has_output_dir = any(argument.startswith("output_dir=") for argument in arguments)
        ended = door(*arguments, *([] if has_output_dir else [f"output_dir={tmp_path / 'out'}"]))
        assert written() == before
        assert ended.code == 2
        assert ended.err.startswith("error: ")
        assert ended.err.endswith("\n")
        assert ended.err.count("\n") == 1, ended.err
        return ended.err.removeprefix("error: ").removesuffix("\n")

    return run


def ended_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ended:
    """Run `vae-sweeps ...` in this process."""
    logging.getLogger("vae_sweeps").handlers.clear()  # they write to the stdout of an earlier test
    with pytest.raises(SystemExit) as ended:
        app.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return Ended(int(ended.value.code or 0), out, err)
