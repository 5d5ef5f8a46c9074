"""The location of the cache."""

import sys
from pathlib import Path

import pytest

from vae_sweeps.system import cache


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other cache folders")
@pytest.mark.parametrize(("variable", "expected"), [("", "home/.cache"), ("elsewhere", "elsewhere")])
def test_cache_folder_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, expected: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / variable) if variable else "")
    assert cache.folder() == tmp_path / expected / "vae-sweeps"
