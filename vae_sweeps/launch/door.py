"""The way into the program and out of it: a user's mistake is one line, and the exit code says how it ended."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

from vae_sweeps.config.errors import RefusedError, UserErrors, one_line
from vae_sweeps.system.logs import start_logging


@dataclass
class Visit:
    """One command on its way through the program, in which a sweeper may launch several times."""

    wants_traceback: bool = False
    # Until a config is composed, whatever goes wrong is a mistake in the command.
    has_composed: bool = False
    exit_code: int = 0


_visit: ContextVar[Visit] = ContextVar("visit")


def current_visit() -> Visit:
    """The command that runs; a new one where Hydra was not entered through the door."""
    try:
        return _visit.get()
    except LookupError:
        visit = Visit()
        _visit.set(visit)
        return visit


def through_the_door(main: Callable[[], Any]) -> None:
    """Run Hydra's `main`: a user's mistake is one line on stderr and exit code 2 (HYDRA_FULL_ERROR=1: a traceback)."""
    visit = Visit(wants_traceback=os.environ.get("HYDRA_FULL_ERROR") == "1")
    _visit.set(visit)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets its errors through instead of printing them its own way
    start_logging()
    try:
        main()
    except (RefusedError, *UserErrors) as error:
        if visit.wants_traceback or (visit.has_composed and not isinstance(error, RefusedError)):
            raise
        exit_refused(str(error) if isinstance(error, RefusedError) else one_line(error))
    sys.exit(visit.exit_code)


@contextmanager
def checking() -> Iterator[None]:
    """What goes wrong in here is the user's mistake: nothing has been trained or written yet."""
    try:
        yield
    except UserErrors as error:
        raise RefusedError(one_line(error)) from error


def exit_refused(line: str) -> NoReturn:
    """End with a user's mistake in one line."""
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
