"""The source code of a user's own parts: the files that a `_target_` needs, found without importing them."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

# Not part of a run id: what belongs to Python, ours, and torch, whose version each result names.
_LEFT_OUT = frozenset({*sys.stdlib_module_names, "vae_sweeps", "hydra_plugins", "torch"})
_OF_LIBRARIES = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")})


def files_of(targets: Iterable[str]) -> dict[str, bytes]:
    """The files of the modules that the targets name and of the modules that these import, by their names.

    A name is relative to the folder from which Python imports, such as `my_nets.py` or `mine/blocks.py`. The bytes have
    Unix line ends. Of an installed library there is no file, but an entry `name==version` without bytes. Imports are
    read from the text, so a module that is imported by its name in a string is not found, nor is a file of data.

    Raises ValueError if there is no module of a target's name, and if a file cannot be read.
    """
    found: dict[str, bytes] = {}
    make_importable()
    for target in sorted(set(targets)):
        module = _module_of(target)
        if module is None:
            raise ValueError(
                f"_target_={target}: cannot be imported, there is no module {target.split('.')[0]}; must be the full "
                "dotted name of a function or class, in the folder where you start the command or in a package"
            )
        _add(module, found)
    return found


def make_importable() -> None:
    """Let Python import the modules of the current folder, after all others: nothing that is installed is hidden.

    Only for what the user's command names; a folder that came from someone else may hold modules too.
    """
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)


def digest(targets: Iterable[str]) -> str:
    """The first 16 hex digits of the sha256 of `files_of`; "" if the targets have no file and no library."""
    return digest_of(files_of(targets))


def digest_of(files: Mapping[str, bytes]) -> str:
    """The digest of files that `files_of` has found."""
    whole = hashlib.sha256()
    for name, content in sorted(files.items()):
        whole.update(f"{name} {len(content)}\0".encode() + content)
    return whole.hexdigest()[:16] if files else ""


def differences(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> list[str]:
    """The names of the files that are not the same, in order."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _module_of(target: str) -> str | None:
    """The longest beginning of the target's name that is a module."""
    parts, found = target.split("."), None
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        if _spec(name) is None:
            return found
        found = name
    return found


def _add(module: str, found: dict[str, bytes], seen: set[str] | None = None) -> None:
    """Add the module, the packages around it and what they import."""
    seen = set() if seen is None else seen
    if module in seen or module.split(".")[0] in _LEFT_OUT:
        return
    seen.add(module)
    if package := module.rpartition(".")[0]:
        _add(package, found, seen)
    spec = _spec(module)
    if spec is None or spec.origin is None or spec.origin in ("built-in", "frozen"):
        return
    path = Path(spec.origin)
    if _is_of_library(path):
        found[_installed(module.split(".")[0])] = b""
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    is_package = spec.submodule_search_locations is not None
    folders = module.count(".") + (2 if is_package else 1)
    name = "/".join(path.parts[-folders:])
    if path.suffix != ".py":  # a compiled module
        found[name] = content
        return
    found[name] = content.replace(b"\r\n", b"\n")
    for imported in _imports(content, path, module if is_package else package):
        _add(imported, found, seen)


def _imports(content: bytes, path: Path, package: str) -> Iterator[str]:
    """The modules that the text imports, anywhere in it."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: is not Python: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _existing(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from _existing(module)
            for alias in node.names:
                name = f"{module}.{alias.name}"
                if module and module.split(".")[0] not in _LEFT_OUT and _spec(name) is not None:
                    yield name


def _existing(module: str) -> Iterator[str]:
    if module and module.split(".")[0] not in _LEFT_OUT and _spec(module) is not None:
        yield module


def _spec(module: str) -> ModuleSpec | None:
    """Where the module is; None if there is none. Imports nothing, also no package around it."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        name = top
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return None
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    except (ImportError, ValueError, AttributeError):
        return None
    return spec


def _is_of_library(path: Path) -> bool:
    resolved = path.resolve()
    return any(resolved.is_relative_to(folder) for folder in _OF_LIBRARIES)


@cache
def _installed(package: str) -> str:
    """The distributions that a package was installed with, such as `torchvision==0.20`."""
    names = sorted(set(importlib.metadata.packages_distributions().get(package, [])))
    return ", ".join(f"{name}=={importlib.metadata.version(name)}" for name in names) or package
