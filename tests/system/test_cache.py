"""The cache: its location, and that a result is computed once and read correctly."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_sweeps.system import cache

CONTENT = {"weights": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}, "accuracy": 0.5, "name": "x"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other cache folders")
@pytest.mark.parametrize(("variable", "expected"), [("", "home/.cache"), ("elsewhere", "elsewhere")])
def test_cache_folder_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, expected: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / variable) if variable else "")
    assert cache.folder() == tmp_path / expected / "vae-sweeps"


def is_content(found: dict[str, Any]) -> bool:
    weights = found["weights"]
    same = all(torch.equal(weights[name], tensor) for name, tensor in CONTENT["weights"].items())
    return same and found["accuracy"] == 0.5 and found["name"] == "x" and found.keys() == CONTENT.keys()


class Maker:
    """Makes the content, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        return CONTENT


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which `CONTENT` is cached, as kind "kind" with an empty recipe."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    cache.once("kind", {}, Maker())
    (path,) = (tmp_path / "home" / "vae-sweeps").glob("*.bin")
    return path


def test_the_same_recipe_is_made_once_whatever_the_order_of_its_keys(cached: Path) -> None:
    make = Maker()
    recipes = [{"a": 1, "b": {"c": [1, 2], "d": "x"}}, {"b": {"d": "x", "c": [1, 2]}, "a": 1}]
    assert all(is_content(cache.once("kind", recipe, make)) for recipe in recipes * 2)
    assert make.times == 1


def test_other_recipes_and_kinds_are_made_and_kept_apart(cached: Path) -> None:
    wanted = [("kind", {"a": 1}), ("kind", {"a": 2}), ("kind", {"b": 1}), ("kind", {"a": [1]}), ("other", {"a": 1})]
    for i, (kind, recipe) in enumerate(wanted):
        assert cache.once(kind, recipe, lambda i=i: {"i": i}) == {"i": i}
    assert [cache.once(kind, recipe, Maker())["i"] for kind, recipe in wanted] == [0, 1, 2, 3, 4]
    assert len(list(cached.parent.glob("*.bin"))) == 6


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b"",
        lambda b: b[: len(b) // 2],
        lambda b: b[:-1],
        lambda b: b"not a file of torch",
        lambda b: bytes(len(b)),
    ],
    ids=["empty", "cut", "one byte short", "text", "zeros"],
)
def test_a_damaged_file_is_made_again(cached: Path, spoil: Callable[[bytes], bytes]) -> None:
    cached.write_bytes(spoil(cached.read_bytes()))
    make = Maker()
    assert is_content(cache.once("kind", {}, make))
    assert is_content(cache.once("kind", {}, make))
    assert make.times == 1


def test_after_any_flipped_bit_the_content_is_right(cached: Path, caplog) -> None:
    """Whether the bit matters or not: in every 41st byte, and in every fifth of the directory at the file's end."""
    caplog.set_level(logging.ERROR, "vae_sweeps.system.cache")
    good = cached.read_bytes()
    offsets = [*range(0, len(good), 41), *range(good.find(b"PK\1\2"), len(good), 5)]
    for offset, bit in [(offset, bit) for offset in offsets for bit in (3, 4)]:
        bad = bytearray(good)
        bad[offset] ^= 1 << bit
        cached.write_bytes(bad)
        assert is_content(cache.once("kind", {}, Maker())), (offset, bit)


def test_a_cache_folder_that_cannot_be_written_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    make = Maker()
    assert all(is_content(cache.once("kind", {}, make)) for _ in range(2))
    assert make.times == 2


def test_a_missing_cache_folder_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    (tmp_path / "file").touch()
    for home in ("absent", "file"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
        cache.once("kind", {}, Maker())
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_fails_is_not_cached_and_the_next_may_try(cached: Path) -> None:
    def fail() -> dict[str, Any]:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        cache.once("kind", {"new": 1}, fail)
    assert is_content(cache.once("kind", {"new": 1}, Maker()))
