"""docs/config.md is up to date with conf/ and the schema, and describes every key."""

import re
import runpy
from dataclasses import fields

import pytest

from tests.conftest import ROOT
from vae_sweeps.config.keys import GROUP_SCHEMAS, TYPED_GROUPS

PAGE = (ROOT / "docs" / "config.md").read_text()
SCRIPT = runpy.run_path(str(ROOT / "docs" / "make_config_reference"))


def test_the_page_is_up_to_date() -> None:
    assert SCRIPT["reference"]() == PAGE, "run docs/make_config_reference"


def test_the_page_has_every_key_of_the_schema() -> None:
    expected = {f.name for f in fields(SCRIPT["Command"])} - {"pictures"}
    for group, schema in [*TYPED_GROUPS.items(), *((group, schema) for (group, _), schema in GROUP_SCHEMAS.items())]:
        expected |= {f"{group.replace('/', '.')}.{name}" for name in SCRIPT["described_by"](schema)}
    shown = set(re.findall(r"^\| (?:`|\[)([\w./]+)(?:`|\])", PAGE, re.MULTILINE))
    assert expected - {name.replace("/", ".") for name in shown} == set()


def test_the_page_has_every_choice() -> None:
    for group in SCRIPT["GROUPS"]:
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"| `{group}={path.stem}` |" in PAGE


def test_every_key_and_choice_is_described() -> None:
    rows = re.findall(r"^\| [`\[].*\|$", PAGE, re.MULTILINE)
    assert len(rows) > 100
    assert [row for row in rows if re.search(r"\|\s*\|", row)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("beta: 1.0  # weight of the KL", {"beta": ("1.0", "weight of the KL")}),
        ("tags: []", {"tags": ("[]", "")}),
        ("setup: ['#!x']   # shell # lines", {"setup": ("['#!x']", "shell # lines")}),
        ("a:  # a block\n  b: {c: 1}  # its key\nd: x", {"a.b": ("{c: 1}", "its key"), "d": ("x", "")}),
        ("defaults:\n  - mnist_schema\n  - override /data: mnist  # images", {"/data": ("mnist", "images")}),
    ],
)
def test_the_comment_behind_a_key_describes_it(text: str, expected: dict[str, tuple[str, str]]) -> None:
    assert SCRIPT["read_keys"](text) == expected
