"""A wheel of the project works without the checkout it was made from."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


def files_below(folder: Path, endings: set[str]) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in endings}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    name = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with zipfile.ZipFile(folder / name.strip()) as wheel:
        wheel.extractall(folder / "site-packages")
    return folder / "site-packages"


def test_a_wheel_has_all_files_of_the_package_and_of_conf(installed: Path) -> None:
    endings = {".py", ".pyi", ".js", ".css", ".j2"}
    package = files_below(ROOT / "vae_sweeps", endings)
    assert {path.suffix for path in (ROOT / "vae_sweeps").rglob("*") if path.is_file()} <= endings | {".pyc"}
    assert files_below(installed / "vae_sweeps", endings) == package
    conf = files_below(ROOT / "conf", {".yaml"})
    assert conf
    assert files_below(installed / "vae_sweeps" / "conf", {".yaml"}) == conf
    assert (installed / "hydra_plugins" / "vae_sweeps_plugins.py").is_file()


def test_a_wheel_finds_its_own_conf(installed: Path, tmp_path: Path) -> None:
    code = "from vae_sweeps.config import compose; print(compose.CONF)"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{installed / 'vae_sweeps' / 'conf'}\n", "")


@pytest.mark.slow
def test_a_wheel_launches_from_any_folder(installed: Path, tmp_path: Path) -> None:
    code = "import sys; from vae_sweeps.cli.app import main; main(sys.argv[1:])"
    arguments = ["launch", "-m", "beta=0,1", "latent=2", "steps=2", "evaluation=none", "tracker=none"]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "2 points: all done" in ended.stdout
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 2
    (report,) = (tmp_path / "outputs" / "sweeps").glob("*/report.html")
    page = report.read_text()
    assert "vae-sweeps launch -m beta=0,1 latent=2" in page
    assert "vae-sweeps launch beta=0 latent=2" in page
    assert "launch.py" not in page
