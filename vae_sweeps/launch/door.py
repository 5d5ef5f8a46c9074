"""Error messages and exit codes of `launch.py`: a user's mistake is reported in one line."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NoReturn

from vae_sweeps.config.errors import RefusedError, UserErrors, one_line
from vae_sweeps.system import files
from vae_sweeps.system.logs import start_logging


@dataclass
class Invocation:
    """The state of one invocation of `launch.py`, during which a sweeper may launch several times."""

    wants_traceback: bool = False
    # Before a config is composed, every error is a mistake in the command.
    has_composed: bool = False
    exit_code: int = 0
    command: list[str] = field(default_factory=lambda: sys.argv)  # as it was typed


_invocation: ContextVar[Invocation] = ContextVar("invocation")


def current_invocation() -> Invocation:
    """The current invocation; a new one if Hydra was not started by `run_main`."""
    try:
        return _invocation.get()
    except LookupError:
        invocation = Invocation()
        _invocation.set(invocation)
        return invocation


def run_main(main: Callable[[], Any], command: list[str]) -> None:
    """Run Hydra's `main` for `command`, as it was typed, and exit. A user's mistake is one line on stderr and exit
    code 2.

    The environment variable HYDRA_FULL_ERROR=1 shows a traceback instead.
    """
    invocation = Invocation(wants_traceback=os.environ.get("HYDRA_FULL_ERROR") == "1", command=command)
    _invocation.set(invocation)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    start_logging()
    try:
        main()
    except (RefusedError, *UserErrors) as error:
        if invocation.wants_traceback or (invocation.has_composed and not isinstance(error, RefusedError)):
            raise
        exit_refused(str(error) if isinstance(error, RefusedError) else one_line(error))
    except OSError as error:
        if invocation.wants_traceback or not files.is_storage_error(error):
            raise
        what = f"{error.filename or 'output_dir'}: {error.strerror}"
        print(
            f"error: {what}; what was saved is safe: free or repair the disk, then run the same command again",
            file=sys.stderr,
        )
        sys.exit(1)
    sys.exit(invocation.exit_code)


@contextmanager
def checking() -> Iterator[None]:
    """Report errors in this block as the user's mistake: nothing has been trained or written yet."""
    try:
        yield
    except UserErrors as error:
        raise RefusedError(one_line(error)) from error


def exit_refused(line: str) -> NoReturn:
    """Print the line that describes the user's mistake, and exit with code 2."""
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
