"""The Python environment of the other libraries, made once in the cache: `python -m benchmarks.environment`.

It has the extra `bench` of pyproject.toml and the project's version of torch, but not the project.
"""

import importlib.util
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

from vae_sweeps.system import cache

ROOT = Path(__file__).parents[1]


def requirements() -> list[str]:
    """What is installed: requirements of pip."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return [f"torch=={metadata.version('torch').partition('+')[0]}", *extras["bench"]]


def python_with_jax() -> str:
    """The Python that has JAX and optax: the running one, as on a machine without network, or the environment's."""
    has_both = all(importlib.util.find_spec(name) for name in ("jax", "optax"))
    return sys.executable if has_both else python()


def python() -> str:
    """The environment's Python. Makes the environment if it is missing, which takes minutes."""
    wanted = requirements()
    folder = cache.folder() / f"bench-{cache.digest([sys.version, *wanted])}"
    executable, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        print(f"installing {', '.join(wanted)} into {folder}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install = [str(executable), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        subprocess.run(install, check=True)
        ready.touch()
    return str(executable)


if __name__ == "__main__":
    print(python())
