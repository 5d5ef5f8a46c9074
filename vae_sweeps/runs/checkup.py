"""What is wrong with the files of runs and sweeps, and how it is mended. Behind `vae-sweeps doctor`."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vae_sweeps.config.identity import is_run_id, run_id
from vae_sweeps.config.point import from_container
from vae_sweeps.runs import checkpoint, claims, leftovers, row_log, sealed_config, states, sweep_folder
from vae_sweeps.runs.run_folder import STOPPED, RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files, lease
from vae_sweeps.system.files import DamagedError

_ASIDE = ".damaged"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: the file, what is wrong with it, and what to do.

    `mend` does it, and is None if that could lose something or needs a decision.
    """

    path: Path
    trouble: str
    advice: str
    mend: Callable[[], None] | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.trouble}; {self.advice}"


def set_aside(path: Path) -> None:
    """Rename a damaged file, so that nothing reads it any more."""
    os.replace(path, path.with_name(path.name + _ASIDE))


def of_run(run: RunFolder) -> list[Finding]:
    """What is wrong in a run's folder. A run that a process works on is left alone."""
    if claims.is_held(run):
        return []
    found = [*_access(run.path), *_leftovers(run.path, (".claim", ".wandb"))]
    if not found or all(finding.mend for finding in found):
        found += [*_config(run), *_results_of(run)]
    return found


def of_sweep(sweep: SweepFolder) -> list[Finding]:
    """What is wrong in a sweep's folder: damaged lists, missing runs, and jobs that vanished."""
    found = [*_access(sweep.path), *_leftovers(sweep.path, ())]
    for path in sorted(sweep.points.glob("*.json")):
        try:
            sweep_folder.read_points(path)
        except DamagedError as error:
            found.append(Finding(path, *_said(error, path), lambda path=path: set_aside(path)))
    for path in [*filter(Path.exists, [sweep.halving]), *sorted(sweep.rungs.glob("*.json"))]:
        try:
            files.unseal(path.read_bytes(), path, "launch the sweep's command again")
        except DamagedError as error:
            found.append(Finding(path, *_said(error, path), lambda path=path: set_aside(path)))
    for path in (sweep.launches, sweep.submissions):
        if path.exists() and (num_bad := len(path.read_bytes().splitlines()) - len(files.read_lines(path))):
            advice = "they are left out, and nothing else is lost"
            found.append(Finding(path, f"{num_bad} damaged lines", advice, lambda path=path: _keep_whole_lines(path)))
    for run in sweep.runs():
        if not run.exists():
            found.append(Finding(run.path, "the sweep lists it, but it has no config.yaml", "launch the sweep again"))
    return [*found, *_vanished(sweep)]


def of_cache(folder: Path) -> list[Finding]:
    """Locks and unfinished files that killed processes left in the cache."""
    if not folder.is_dir():
        return []
    locks = {path.name.rpartition("-")[0] for path in folder.glob(".*-*") if path.is_dir()}
    return list(_leftovers(folder, sorted(locks)))


def _vanished(sweep: SweepFolder) -> Iterator[Finding]:
    try:
        points = states.of_sweep(sweep)
    except ValueError as error:  # SLURM does not answer
        yield Finding(sweep.path, str(error), "try again later")
        return
    command = f"vae-sweeps retry {sweep.name}{sweep_folder.output_dir_option(sweep)}"
    for point in points:
        if point.state == "lost":
            yield Finding(sweep.run(point.run).path, f"its job vanished ({point.reason})", f"resume it: {command}")


def _said(error: DamagedError, path: Path) -> tuple[str, str]:
    """The error's text in two parts: what is wrong, and what will happen or is to be done."""
    trouble, _, advice = str(error).removeprefix(f"{path}: ").partition("; ")
    return trouble, advice or "launch the point again"


def _access(folder: Path) -> Iterator[Finding]:
    """Links, and files that the user cannot read or write."""
    for path in [folder, *leftovers.inside(folder)]:
        if path.is_symlink():
            yield Finding(path, "is a link, which writing would follow", "remove it, or put a copy in its place")
        elif not os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)):
            mode = stat.filemode(path.stat().st_mode)
            yield Finding(path, f"you may not read or write it ({mode})", f"chmod u+rwX {path}")


def _leftovers(folder: Path, names: Sequence[str]) -> Iterator[Finding]:
    """What killed processes left behind: claims and unfinished files."""
    stale = leftovers.stale_claims(folder, names)
    for path in stale:
        yield Finding(path, "the process that made it is gone", "remove it", lambda path=path: lease.remove(path))
    for path in leftovers.unfinished(folder, stale):
        yield Finding(path, "a kill left it unfinished", "remove it", lambda path=path: leftovers.delete(path))


def _config(run: RunFolder) -> Iterator[Finding]:
    try:
        config = sealed_config.unseal(run.config, run.name)
        name = run_id(from_container(config.content), config.data_fingerprint, config.source)
    except (DamagedError, FileNotFoundError) as error:
        yield Finding(run.config, *_said(DamagedError(str(error)), run.config))
        return
    except (ValueError, TypeError, KeyError) as error:
        yield Finding(run.config, f"not a point of this version ({error})", "launch the point again")
        return
    if is_run_id(config.run_id) and name != config.run_id:
        trouble = f"describes run {name}, not this one"
        yield Finding(run.config, trouble, "it is of another version, or was changed; launch the point again")


def _results_of(run: RunFolder) -> Iterator[Finding]:
    again = "launch the point again"
    try:
        result = run.unseal_result()
    except FileNotFoundError:
        result = None
    except DamagedError as error:
        result = None
        yield Finding(run.result, *_said(error, run.result), lambda: set_aside(run.result))
    saved, damaged = [], []
    for path in (run.checkpoint, run.previous_checkpoint):
        try:
            saved.append(checkpoint.read(path, run.bound_id()))
        except FileNotFoundError:
            continue
        except DamagedError as error:
            damaged.append(Finding(path, _said(error, path)[0], again, lambda path=path: set_aside(path)))
    yield from damaged
    if result is None:
        for one in saved:
            if not row_log.holds(run.rows, one.rows):
                advice = f"{again}; it resumes from an earlier step"
                yield Finding(run.rows, f"lacks rows of the checkpoint of step {one.step}", advice)
        return
    if not row_log.is_whole(run, result):
        advice = "its result is intact; to get the rows back, train it again with overwrite=true"
        yield Finding(run.rows, "not the rows that the run wrote", advice)
    if result["status"] in ("done", STOPPED) and not any(one.step == result["step"] for one in saved):
        advice = "its result is intact; to get the weights back, train it again with overwrite=true"
        yield Finding(run.checkpoint, f"there is no checkpoint of the last step, {result['step']}", advice)


def _keep_whole_lines(path: Path) -> None:
    files.write_whole(path, "".join(files.to_json(line) + "\n" for line in files.read_lines(path)))
