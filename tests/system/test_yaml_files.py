"""YAML is read as OmegaConf reads it, whatever the file contains, and written so that it comes out again."""

import io
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.conftest import make_point
from vae_sweeps.config.point import to_container
from vae_sweeps.system import yaml_files

TEXTS = {
    "numbers": "a: 1e-05\nb: 1e5\nc: 1.0\nd: 0x1f\ne: 0o7\nf: 1_000\ng: .inf\nh: -0.0\ni: 1:30\n",
    "strings like numbers": "a: '1e-05'\nb: \"1\"\nc: 'null'\nd: 1e\ne: 1.2.3\nf: 2020-01-01\ng: 'yes'\n",
    "words": "a: null\nb: ~\nc:\nd: yes\ne: Off\nf: ???\ng: ${beta}\non: 1\n",
    "unicode": "a: é\nb: 'β = 1 \u2028'\nc: \"\\u00e9\"\nü: 1\n",
    "lists": "a:\n- 1\n# a comment\n- [2, 3]\nb: []\nc: [1,\n2]\nd:\n  - x\n",
    "groups": "a:\n  b: {c: 1}\n  d:\n  - e: 1\n    f: 2\n# a comment\ng: {}\n",
    "quotes over lines": "a: 'x\nb: 1'\nc: \"d\n\n  e\"\nf: 2\n",
    "blocks": "a: |\n  x\n\n\nb: >+\n  y\n  z\n\nc: x\n  y\n\n  z\nd: 1\n",
    "anchors": "a: &x [1]\nb: *x\nc: {<<: {d: 1}}\n",
    "a comment first": "# checked\n\na: 1\n",
    "keys that are not words": "1: 2\n'a b': 3\n? c\n: 4\n",
    "a list": "- 1\n- a: 2\n",
    "indented": " a: 1\n b: 2\n",
    "windows": "a: 1\r\nb:\r\n- 2\r\n",
}


def shown(content: Any) -> str:
    """Tells 1 from 1.0 and from True, and the order of keys."""
    return repr(content)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_it_is_read_as_by_omegaconf(text: str) -> None:
    expected = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    for _ in range(2):  # the second time parts of it are remembered
        assert shown(yaml_files.load(text)) == shown(expected)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n",
        "a: 1\nb: {c: 1, c: 2}\n",
        "a: 1\n---\nb: 2\n",
        "a: [\nb: 1\n",
        "a: 'x\nb: 1\n",
        "a: b: c\n",
        "\0",
    ],
)
def test_what_omegaconf_refuses_is_refused(text: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        OmegaConf.load(io.StringIO(text))
    with pytest.raises(ValueError, match="not valid YAML"):
        yaml_files.load(text)


def test_what_is_written_comes_out_again_also_for_omegaconf() -> None:
    content = to_container(make_point("likelihood=gaussian", "likelihood.sigma=learned", "optim.eps=1e-08")) | {
        "words": ["1e-05", "1", "null", "yes", "", "é", "a: b", "#", "x\ny", "- z", "2020-01-01"],
        "numbers": [1e-05, 1e300, -0.0, 3, True, None],
    }
    text = yaml_files.dump(content)
    assert text == yaml_files.dump(content) == OmegaConf.to_yaml(OmegaConf.create(content))
    assert shown(yaml_files.load(text)) == shown(content)
    assert shown(OmegaConf.to_container(OmegaConf.create(text))) == shown(content)


def test_what_is_read_may_be_changed() -> None:
    first = yaml_files.load("a:\n- 1\n")
    first["a"].append(2)
    assert yaml_files.load("a:\n- 1\n") == {"a": [1]}
