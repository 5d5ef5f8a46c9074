"""Serve the report of sweeps on this machine while they train. Behind `vae-sweeps watch`.

Read-only. Answers this machine only, and no page of another site, whatever name that site gives this machine.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from vae_sweeps.report import contents, page
from vae_sweeps.runs import states
from vae_sweeps.runs.sweep_folder import SweepFolder

log = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1"
# Names of this machine in a browser's address line. A page of another site, whose name leads here, sends its own name.
_OWN_NAMES = {"127.0.0.1", "localhost"}
_LOOK_EVERY_S = 2.0
# The folders are looked at and a page is made only while a browser asks for it, and for at most a tenth of the time:
# training needs the cores.
_ASKED_WITHIN_S = 60.0
_REST = 9.0
_QUEUE_EVERY_S = 60.0  # the queue of a cluster moves without a trace in the folders
_SAFE = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Version(NamedTuple):
    """A version of the page, and the points by state that it shows."""

    number: int
    counts: str
    html: bytes


class LivePage:
    """The report of sweeps. `newest` is its newest version, which `keep_new` makes."""

    def __init__(self, sweeps: Sequence[SweepFolder]) -> None:
        self._sweeps = sweeps
        self._asked_at = time.monotonic()
        self._seen: object = None
        self.newest = Version(0, "", b"")
        self.make()

    def make(self) -> None:
        """Make the page from what the folders hold now."""
        self._seen = self._traces()
        content = contents.read(self._sweeps)
        number = self.newest.number + 1
        self.newest = Version(number, states.counts(content.points), page.render(content, live=number).encode())

    def asked(self) -> None:
        """Note that a browser shows the page."""
        self._asked_at = time.monotonic()

    def keep_new(self, should_stop: threading.Event) -> None:
        """Make the page again whenever the sweeps have changed, until `should_stop` is set."""
        made_at, took_s = time.monotonic(), 0.0
        while not should_stop.wait(max(_LOOK_EVERY_S, _REST * took_s)):
            began = time.monotonic()
            if began - self._asked_at <= _ASKED_WITHIN_S:
                try:
                    if began - made_at > _QUEUE_EVERY_S or self._traces() != self._seen:
                        self.make()
                        made_at = time.monotonic()
                except (OSError, ValueError) as error:  # a folder was removed meanwhile; the next look may find it well
                    log.warning("the page is not new: %s", error)
            took_s = time.monotonic() - began

    def _traces(self) -> list[object]:
        """What changes in the folders when points begin, go on and end."""
        found = list[object]()
        for sweep in self._sweeps:
            found.append(_changed(sweep.path))
            for run in sweep.runs():
                found.append([_changed(path) for path in (run.path, run.rows, run.pictures)])
        return found


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size


class Server(ThreadingHTTPServer):
    """Serves `live` at 127.0.0.1; port 0 is any free one. Raises OSError if the port is taken."""

    def __init__(self, live: LivePage, port: int = 0) -> None:
        self.live = live
        super().__init__((_ADDRESS, port), _Handler)

    @property
    def address(self) -> str:
        """The address to open in a browser."""
        return f"http://{_ADDRESS}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the page at `/`, and with its version and the points by state at `/version`."""
        assert isinstance(self.server, Server)
        live, path = self.server.live, self.path.partition("?")[0]
        if not self._is_of_this_machine():
            self._answer(403, "text/plain", b"only for pages of this machine\n")
        elif path == "/":
            live.asked()
            self._answer(200, "text/html; charset=utf-8", live.newest.html)
        elif path == "/version":
            live.asked()
            content = {"version": live.newest.number, "counts": live.newest.counts}
            self._answer(200, "application/json", json.dumps(content).encode())
        else:
            self._answer(404, "text/plain", b"there is only one page, at /\n")

    do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

    def _is_of_this_machine(self) -> bool:
        """Whether the browser knows this server by a name of this machine, and no other site's page asks."""
        try:
            host, origin = (urlsplit(f"//{self.headers.get('Host', '')}"), urlsplit(self.headers.get("Origin", "")))
            return host.hostname in _OWN_NAMES and (not origin.netloc or origin.netloc == host.netloc)
        except ValueError:
            return False

    def _answer(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **_SAFE}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the terminal shows the address."""

    def version_string(self) -> str:
        """Name neither Python nor its version."""
        return "vae-sweeps"


def serve(server: Server) -> None:
    """Serve until Ctrl-C."""
    should_stop = threading.Event()
    threading.Thread(target=server.live.keep_new, args=[should_stop], daemon=True).start()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        should_stop.set()
        server.server_close()
