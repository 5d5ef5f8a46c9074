"""What is done when a sweep has ended: write its files, and call the commands and addresses of `on_end`, each once."""

import contextlib
import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException, responses
from typing import Any
from urllib.error import HTTPError, URLError

from vae_sweeps.config.launch_options import is_address
from vae_sweeps.runs import claims, forecast, states
from vae_sweeps.runs.known_results import KnownResults
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files
from vae_sweeps.system.logs import first_line

log = logging.getLogger(__name__)

_TIMEOUT_S = 60.0
# The shell reads the command from a variable, since other users can see the arguments of a program.
_SHELL = ["/bin/sh", "-c", 'command=$VAE_SWEEPS_COMMAND; unset VAE_SWEEPS_COMMAND; eval "$command"']


def conclude(sweep: SweepFolder, hooks: Sequence[str]) -> None:
    """If all points of the sweep have ended, write its files and call `hooks`."""
    if all(run.has_ended() for run in sweep.runs()):
        from vae_sweeps.launch import sweep_files  # pandas, matplotlib and jinja2, which other jobs do not need

        sweep_files.write(sweep)
        announce(sweep, hooks)


def announce(sweep: SweepFolder | None, hooks: Sequence[str], timeout_s: float = _TIMEOUT_S) -> None:
    """Call `hooks` if every point of the sweep has ended, and if nobody has called them since.

    A hook may take `timeout_s` seconds. One that fails is a warning, which names no address and no command.
    """
    if not hooks:
        return
    if sweep is None:
        log.warning("on_end: not called, since this command has no sweep; add -m or sweep=NAME")
        return
    results = KnownResults()
    try:
        if not _is_first(sweep, results):
            return
        summary = summary_of(sweep, results)
    except OSError as error:
        log.warning("on_end: not called (%s)", first_line(error))
        return
    log.info("on_end: calling %s", "its entry" if len(hooks) == 1 else f"its {len(hooks)} entries")
    for i, hook in enumerate(hooks):
        try:
            _call(hook, summary, timeout_s)
        except (RuntimeError, OSError, ValueError) as error:  # the sweep has ended well all the same
            kind = "address" if is_address(hook) else "command"
            log.warning("on_end: entry %d (%s) failed: %s", i + 1, kind, error)


def _is_first(sweep: SweepFolder, results: KnownResults) -> bool:
    """Whether the sweep has ended, and this process is the first to say so about this ending."""
    runs = sweep.runs()
    if not runs or not all(run.has_ended() for run in runs) or any(map(claims.is_held, runs)):
        return False
    digest = hashlib.sha256("\n".join(sorted(_end_of(run, results) for run in runs)).encode())
    own = sweep.ending(digest.hexdigest()[:16])
    try:
        files.create(own).close()
    except FileExistsError:
        return False
    for other in sweep.endings():
        if other != own:
            other.unlink(missing_ok=True)
    return True


def _end_of(run: RunFolder, results: KnownResults) -> str:
    """A text that changes when the run ends again; it does not when the run is only evaluated again."""
    if (result := results.of(run)) is not None:
        return f"{run.name} {result['status']} {result.get('finished_at')}"
    with contextlib.suppress(FileNotFoundError):
        return f"{run.name} failed {run.failure.stat().st_mtime_ns}"
    return f"{run.name} damaged"


def summary_of(sweep: SweepFolder, results: KnownResults) -> dict[str, Any]:
    """What hooks receive: "text" (one line), "sweep" (its name), "counts" (points by state) and "report" (its path)."""
    (points,) = states.of_sweeps([sweep], may_ask_slurm=False, results=results)
    cost = "".join(f"; {line}" for line in forecast.described(forecast.of_sweep(points, [])))
    report = str(sweep.report.resolve())
    text = f"{sweep.name} has ended: {states.counts(points)}{cost}; report: {report}"
    found = [point.state for point in points]
    return {
        "text": text,
        "sweep": sweep.name,
        "counts": {state: found.count(state) for state in states.STATES if state in found},
        "report": report,
    }


def _call(hook: str, summary: Mapping[str, Any], timeout_s: float) -> None:
    """Call one hook. Raises RuntimeError with the reason, which holds no secret of the hook, if it fails."""
    data = json.dumps(summary).encode()
    if is_address(hook):
        _post(hook, data, timeout_s)
    else:
        _run(hook, data, {"VAE_SWEEPS_SWEEP": summary["sweep"], "VAE_SWEEPS_SUMMARY": summary["text"]}, timeout_s)


def _post(address: str, data: bytes, timeout_s: float) -> None:
    request = urllib.request.Request(address, data, {"Content-Type": "application/json", "User-Agent": "vae-sweeps"})
    try:
        urllib.request.urlopen(request, timeout=timeout_s).close()
    except HTTPError as error:
        raise RuntimeError(f"the server answers {error.code} {responses.get(error.code, '')}") from error
    except URLError as error:
        raise RuntimeError(f"no connection: {getattr(error.reason, 'strerror', None) or 'no reason given'}") from error
    except (OSError, ValueError, HTTPException) as error:  # their texts may contain the address
        raise RuntimeError(f"no answer ({type(error).__name__})") from error


def _run(command: str, data: bytes, variables: Mapping[str, str], timeout_s: float) -> None:
    """Run a shell command with `data` on its standard input; it and what it started end after `timeout_s` seconds."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:  # a pipe may be kept by a grandchild
        given.write(data)
        given.seek(0)
        process = subprocess.Popen(
            _SHELL,
            env={**os.environ, **variables, "VAE_SWEEPS_COMMAND": command},
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise RuntimeError(f"no end within {timeout_s:g} s") from None
        if code:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            said = "".join(f", {_without_words(line, command)[:200]}" for line in last)
            raise RuntimeError(f"exit code {code}{said}")


# What a command may print without giving away a secret: names of programs, options and the like.
_HARMLESS = re.compile(r"[a-z_.-]*|.{0,5}")


def _without_words(text: str, command: str) -> str:
    """The text without words of the command that may be secret, and without parts of them."""
    words = [word for pattern in (r"[\s'\"]+", r"[\s'\"/=?&:;]+") for word in re.split(pattern, command)]
    for word in sorted(set(words), key=len, reverse=True):
        if not _HARMLESS.fullmatch(word):
            text = text.replace(word, "***")
    return text
