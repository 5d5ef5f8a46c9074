"""The pictures of README and docs can be regenerated."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.conftest import ROOT

SMALL = ["beta=0,1", "latent=2", "seed=0,1", "steps=5", "arch.hidden=[8]", "evaluation=none", "tracker=none"]
_BYTES = 200_000


@pytest.mark.slow
def test_the_pictures_can_be_made(tmp_path: Path) -> None:
    images = tmp_path / "images"
    command = [sys.executable, ROOT / "docs" / "make_screenshots", "--to", images]
    ended = subprocess.run([*command, *SMALL, f"output_dir={tmp_path / 'out'}"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    made = {path.name: path for path in images.iterdir()}
    shown = set(re.findall(r"\(images/([\w.]+)\)", (ROOT / "docs" / "command_line.md").read_text()))
    assert {"help.svg", "results.svg", "results_over_seed.svg"} <= set(made) & shown
    for path in made.values():
        assert 1_000 < path.stat().st_size < _BYTES
        if path.suffix == ".png":
            assert Image.open(path).size == (1400, 1000)
            continue
        picture = ElementTree.fromstring(path.read_text())
        _, _, width, height = map(float, picture.attrib["viewBox"].split())
        assert 1200 < width < 1300  # 100 characters
        assert 150 < height < 1300
        text = "".join(picture.itertext()).replace("\xa0", " ")
        assert {"help": "Usage:", "results": "4 points: all done", "results_over_seed": "±"}[path.stem] in text
        assert "http" not in path.read_text().replace("http://www.w3.org", "").replace("https://www.textualize.io", "")


def test_pictures_in_the_readme_are_there_and_small() -> None:
    shown = re.findall(r"!\[[^\]]+\]\((docs/images/[\w./]+)\)", (ROOT / "README.md").read_text())
    assert shown
    for name in shown:
        assert 0 < (ROOT / name).stat().st_size < _BYTES
