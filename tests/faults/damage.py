"""Files that are damaged between two launches: every file that numbers come from, in every way."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from tests.faults.faults import Fault
from tests.faults.scenes import IMAGES, Scene, is_resumable
from tests.faults.verdict import Marks, Problem
from vae_sweeps.runs.run_folder import RunFolder

Method = Callable[[bytes, random.Random], bytes | None]


def _flip(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def _change_digit(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    place = rng.choice([i for i, byte in enumerate(damaged) if chr(byte).isdigit()])
    damaged[place] = rng.choice([byte for byte in b"0123456789" if byte != damaged[place]])
    return bytes(damaged)


def _insert_bytes(content: bytes, rng: random.Random) -> bytes:
    """Not UTF-8."""
    place = rng.randrange(len(content))
    return content[:place] + b"\xff\xfe\x80" + content[place:]


METHODS: dict[str, Method] = {
    "flip": _flip,
    "cut": _cut,
    "empty": lambda content, rng: b"",
    "delete": lambda content, rng: None,
    "garbage": lambda content, rng: rng.randbytes(max(1, len(content))),
    "digit": _change_digit,
    "not-utf8": _insert_bytes,
    "shape": lambda content, rng: rng.choice((b"[]\n", b'{"a": 1}\n', b"7\n", b"null\n")),
}
_TEXT = tuple(METHODS)
_BINARY = ("flip", "cut", "empty", "delete", "garbage")

# Files of a run: the methods, and whether the damage must be said where the file is read as something else than before.
# A kill may leave a folder without any of these files, so that a deletion needs no word if everything is equal.
_OF_RUNS: dict[str, tuple[tuple[str, ...], bool]] = {
    "checkpoint.pt": (_BINARY, True),
    "checkpoint.prev.pt": (_BINARY, False),  # replaced at the next checkpoint
    "config.yaml": (_TEXT, True),
    "metrics.jsonl": (_TEXT, True),
    "result.json": (_TEXT, True),
    "failure.txt": (("flip", "not-utf8", "empty", "garbage"), False),  # removed by the launch; no number comes from it
    "launch.yaml": (("flip", "not-utf8", "delete", "garbage"), False),
}
# Files of a sweep. Its commands are history; nothing follows from them.
_OF_SWEEPS: dict[str, tuple[tuple[str, ...], bool]] = {
    "points/*.json": (_TEXT, True),
    "launches.jsonl": (("digit", "not-utf8", "garbage", "cut", "shape"), False),
}


def _write(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def _meaning(path: Path) -> object:
    """What the file says to a reader without checksums; an exception is a meaning of its own."""
    try:
        if path.suffix == ".pt":
            return str({key: _digits(value) for key, value in torch.load(path, weights_only=True).items()})
        text = path.read_text()
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines()]
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except Exception as error:
        return type(error)


def _digits(value: object) -> object:
    if isinstance(value, dict):
        return {key: _digits(part) for key, part in value.items()}
    return (value.shape, value.numpy().tobytes()) if isinstance(value, torch.Tensor) else value


def _covered(path: Path, until: int) -> object:
    """The meaning of the rows that the older checkpoint covers; later ones are dropped and logged again."""
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()[: until // 30 + until // 55]]
        return [row for row in rows if row["step"] <= until]
    except Exception as error:
        return type(error)


def _damage_run(name: str, method: str, must_say: bool, finished: bool):
    def inflict(scene: Scene) -> Marks:
        (scene.stock.copy_finished if finished else scene.stock.copy_unfinished)(scene)
        runs = [run for run in scene.runs() if finished or is_resumable(run)]
        run = scene.rng.choice(runs)
        path = run.path / name
        if name == "failure.txt":
            run.write_failure("in an example\nRuntimeError: an example\n")
        is_relevant, what = _damage(path, method, scene.rng, run if name == "metrics.jsonl" and not finished else None)
        marks = Marks(f"{method} {run.name[-12:]}/{name}, {'finished' if finished else 'unfinished'}{what}")
        if must_say and is_relevant:
            marks.damaged = [path]
        marks.mend = lambda: shutil.rmtree(run.path)
        marks.apart = None if scene.grid.alone else run.name
        _look(scene, marks)
        return marks

    return inflict


def _damage(path: Path, method: str, rng: random.Random, rows_of: RunFolder | None = None) -> tuple[bool, str]:
    """Damage the file; returns whether a reader must notice, and a remark if not."""
    until = None
    if rows_of is not None:
        saved = [torch.load(p, weights_only=True)["step"] for p in (rows_of.checkpoint, rows_of.previous_checkpoint)]
        until = min(saved)
    before = _meaning(path) if until is None else _covered(path, until)
    _write(path, METHODS[method](path.read_bytes(), rng))
    if method == "delete":
        return path.suffix == ".jsonl" and before != [], ""
    after = _meaning(path) if until is None else _covered(path, until)
    is_relevant = before != after
    return is_relevant, "" if is_relevant else " (means the same)"


def _damage_sweep(pattern: str, method: str, must_say: bool):
    def inflict(scene: Scene) -> Marks:
        scene.stock.copy_unfinished(scene)
        path = scene.rng.choice(sorted(p for p in scene.sweep.path.rglob(pattern) if p.is_file()))
        is_relevant, what = _damage(path, method, scene.rng)
        marks = Marks(f"{method} {path.relative_to(scene.out)}{what}")
        if must_say and is_relevant:
            marks.damaged = [path]
        marks.mend = lambda: path.unlink(missing_ok=True)
        _look(scene, marks)
        return marks

    return inflict


def _look(scene: Scene, marks: Marks) -> None:
    """Whoever looks at a damaged sweep gets an answer: a table, or a line that names the file; no traceback."""
    for command in ("status", "results"):
        code = scene.ask(command, scene.sweep.path).code
        if code not in (0, 1, 2):
            marks.problems.append(Problem("code", f"vae-sweeps {command}: {code}"))


def _damage_cache(name: str, method: str, must_say: bool):
    def inflict(scene: Scene) -> Marks:
        """The images are in the cache, from another sweep's launch; then this sweep is launched."""
        shutil.copytree(scene.stock.reference(scene.grid).parent / "cache", scene.image_cache)
        path = scene.rng.choice(sorted(scene.image_cache.rglob(name)))
        before = path.read_bytes()
        _write(path, METHODS[method](before, scene.rng))
        marks = Marks(f"{method} {name} in the cache of images")
        if must_say and method != "delete" and before != path.read_bytes():
            marks.damaged = [path]
        marks.mend = lambda: shutil.rmtree(scene.image_cache)
        return marks

    return inflict


def _of_runs() -> list[Fault]:
    found = []
    for name, (methods, must_say) in _OF_RUNS.items():
        for method in methods:
            always_unfinished = {"failure.txt": (False,), "checkpoint.prev.pt": (False,)}
            states = {"result.json": (True,), **always_unfinished}.get(name, (False, True))
            for finished in states:
                inflict = _damage_run(name, method, must_say, finished)
                found.append(Fault(f"damage/{name}/{method}{'/finished' * finished}", inflict))
    return found


_CACHE = [("images.u8", method) for method in ("flip", "cut", "empty", "delete", "garbage")]
_CACHE += [("index.json", method) for method in ("flip", "digit", "cut", "empty", "delete", "garbage", "shape")]

FAULTS = [
    *_of_runs(),
    *(
        Fault(f"damage/{pattern.split('/')[0]}/{method}", _damage_sweep(pattern, method, must_say))
        for pattern, (methods, must_say) in _OF_SWEEPS.items()
        for method in methods
    ),
    *(Fault(f"damage/{name}/{how}", _damage_cache(name, how, name == "images.u8"), [IMAGES]) for name, how in _CACHE),
]
