"""docs/images/packages.svg is what docs/make_architecture_picture draws, and its arrows are the code's imports."""

import re
import runpy
from xml.etree import ElementTree

from tests.conftest import ROOT
from tests.test_layering import PACKAGE, RANK, imports, package_of

PICTURE = (ROOT / "docs" / "images" / "packages.svg").read_text()
SCRIPT = runpy.run_path(str(ROOT / "docs" / "make_architecture_picture"))
ARROWS = re.findall(r"<title>(\w+) imports (\w+)</title>", PICTURE)


def test_the_picture_is_up_to_date() -> None:
    assert SCRIPT["picture"]() == PICTURE, "run docs/make_architecture_picture"


def test_the_picture_has_every_package_and_is_900_pixels_wide() -> None:
    root = ElementTree.fromstring(PICTURE)
    assert root.attrib["width"] == "900"
    assert set(RANK) <= {"".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")}


def test_the_arrows_lead_to_what_each_package_imports() -> None:
    graph = {name: {end for start, end in ARROWS if start == name} for name in RANK}
    needed = {name: set[str]() for name in RANK}
    for path, imported in imports():
        if path.parent != PACKAGE and imported.startswith("vae_sweeps."):
            needed[package_of(path)].add(imported.split(".")[1])
    for name in RANK:
        direct = needed[name] - {name}
        assert graph[name] <= direct <= SCRIPT["reachable"](graph, name)
