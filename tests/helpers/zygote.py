"""A process that has imported everything and forks for each command, so that a command starts in no time.

The parent writes one JSON object a line to its standard input, and reads one a line from its standard output:

    {"start": [program, arguments...], "cwd": path, "env": {...}, "output": path, "errors": path}  ->  {"started": pid}
    {"signal": number, "pid": pid}, to the command and its children  ->  {"signalled": pid}
    when a command has ended  ->  {"ended": pid, "code": number}

Process ids are those of the zygote's own namespace, so it also serves from a namespace of its own. With the argument
`--plain` it draws no figures.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import select
import selectors
import sys
import time
import traceback
from typing import Any, NoReturn

from tests.helpers import ROOT

# The tracker's modules import wandb, which few commands use; a __main__ would run.
_NOT_IMPORTED = ("vae_sweeps.tracker", "__main__")
_LIBRARIES = ("matplotlib.backends.backend_agg", "scipy.stats", "pyarrow.parquet", "plotly.io")
# The files of a request, for standard output and standard error.
_STREAMS = ("output", "errors")


def _import_everything() -> None:
    import vae_sweeps

    found = pkgutil.walk_packages(vae_sweeps.__path__, "vae_sweeps.")
    names = [module.name for module in found if not any(part in module.name for part in _NOT_IMPORTED)]
    for name in (*names, *_LIBRARIES):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _draw_plainly() -> None:
    """Let matplotlib's figures be small empty pictures: drawing curves would take half of the time of a launch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    def print_png(_: FigureCanvasAgg, target: Any) -> None:
        Image.new("L", (8, 8)).save(target, format="png")

    FigureCanvasAgg.print_png = print_png  # type: ignore[method-assign]


def _pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def _sleep_with_select() -> None:
    """Under libfaketime Python's `time.sleep` fails with EINVAL (its deadline is on the monotonic clock)."""
    if "faketime" in os.environ.get("LD_PRELOAD", ""):
        time.sleep = _pause


def _become(request: dict[str, Any]) -> NoReturn:
    """Run the command in this process, as a new process would."""
    output, errors = (os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for name in _STREAMS)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (errors, 2)):
        os.dup2(source, target)
    os.closerange(3, 256)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    program, *arguments = request["start"]
    sys.argv = [program, *arguments]
    code: Any = 1
    try:
        if program == "vae-sweeps":
            importlib.import_module("vae_sweeps.cli.app").main(arguments)
        else:
            runpy.run_path(program, run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0 if code is None else code if isinstance(code, int) else 1)


def _answer(**content: object) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def serve() -> None:
    """Carry out requests until standard input ends."""
    waiting = selectors.DefaultSelector()
    waiting.register(0, selectors.EVENT_READ)
    unread = b""
    _answer(ready=os.getpid())
    while True:
        for key, _ in waiting.select():
            if key.fd == 0:
                data = os.read(0, 65536)
                if not data:
                    return
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    _carry_out(json.loads(line), waiting)
            else:
                waiting.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(key.data, 0)[1])
                _answer(ended=key.data, code=code)


def _carry_out(request: dict[str, Any], waiting: selectors.BaseSelector) -> None:
    if "signal" in request:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(request["pid"], request["signal"])
        _answer(signalled=request["pid"])
        return
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        _become(request)
    with contextlib.suppress(PermissionError, ProcessLookupError):  # both do it, so that no signal comes too early
        os.setpgid(pid, pid)
    waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
    _answer(started=pid)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _import_everything()
    if "--plain" in sys.argv:
        _draw_plainly()
    _sleep_with_select()
    serve()
