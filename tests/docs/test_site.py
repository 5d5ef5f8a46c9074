"""The documentation builds as a site without warnings, and a reader needs no other host."""

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCS = ROOT / "docs"
COMMAND_LINE = runpy.run_path(str(DOCS / "make_command_line"))


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site with warnings as errors; all requests to other hosts fail."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "--site-dir", site]
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=os.environ | nowhere, capture_output=True, text=True)


class Loaded(HTMLParser):
    """Collects what a browser loads by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe") and given.get("src"):
            self.addresses.append(str(given["src"]))
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.addresses.append(str(given["href"]))


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_asks_no_other_host(tmp_path) -> None:
    ended = build(ROOT / "mkdocs.yml", tmp_path)
    assert ended.returncode == 0, ended.stderr
    pages = [path for path in tmp_path.rglob("*.html") if path.name != "404.html"]
    sources = list(DOCS.rglob("*.md"))
    assert len(pages) == len(sources) + 2  # CONTRIBUTING.md and CHANGELOG.md
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text())
        for address in loaded.addresses:
            assert not re.match(r"(\w+:)?//", address), (page, address)
            assert (page.parent / address).exists(), (page, address)


@pytest.mark.slow
@pytest.mark.parametrize(("link", "named"), [("nowhere.md", "nowhere.md"), ("glossary.md#nothing", "#nothing")])
def test_a_broken_link_ends_the_build(tmp_path, link, named) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for page in DOCS.rglob("*.md"):
        (docs / page.relative_to(DOCS)).parent.mkdir(exist_ok=True)
        (docs / page.relative_to(DOCS)).write_text(page.read_text())
    (docs / "images").symlink_to(DOCS / "images")
    (docs / "faq.md").write_text(f"# Questions\n\n[broken]({link})\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: {docs}\nhooks: [{DOCS / 'site_hooks.py'}]\n")
    ended = build(config, tmp_path / "site")
    assert ended.returncode != 0
    assert named in ended.stderr


def test_the_reference_of_commands_is_up_to_date() -> None:
    page = COMMAND_LINE["PAGE"].read_text()
    assert COMMAND_LINE["filled"](page) == page, "run docs/make_command_line"
    assert "vae-sweeps results SWEEP --over seed" in page


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_every_page_is_named_in_the_index() -> None:
    index = (DOCS / "README.md").read_text() + (DOCS / "extending.md").read_text()
    for page in DOCS.rglob("*.md"):
        if page.name != "README.md":
            assert f"({page.relative_to(DOCS)})" in index, page
