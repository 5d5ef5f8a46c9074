"""What the site (mkdocs.yml) needs beside the pages of docs/: pages of the repository's top folder, and their links."""

import re
from pathlib import Path
from posixpath import relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

# Files outside docs/ that the site has as pages, or that a page of the site tells about.
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
TOLD_IN = {"README.md": "quick_start.md", "examples/own_parts/README.md": "extending.md"}

_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Point links that leave docs/ to the site's pages."""
    origin = {made: source for source, made in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(link: re.Match[str]) -> str:
        target = (ROOT / origin).parent.joinpath(link[1]).resolve().relative_to(ROOT).as_posix()
        if target.startswith("docs/"):
            inside = target.removeprefix("docs/")
        elif target.startswith("analysis/"):
            inside = "notebooks.md"
        else:
            inside = (PAGES | TOLD_IN).get(target)
        return link[0] if inside is None else f"]({relpath(inside, Path(page.file.src_uri).parent.as_posix())}"

    return _LINK.sub(moved, markdown)
