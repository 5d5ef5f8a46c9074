"""A stand-in for Weights & Biases' server on loopback: what wandb 0.31 and wandb-workspaces ask of the real one.

By hand: `python -m tests.helpers.wandb_server [port]`, then start clients with the environment that it prints.
"""

import base64
import gzip
import json
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.helpers.wandb_answers import OPERATIONS, Json, RunOnServer, place_of

KEY = "standin4" * 5


@dataclass
class _Fault:
    status: int | None
    times: int | None
    delay_s: float


class WandbServer:
    """The server and everything it received. A restart keeps its address and its data."""

    def __init__(self, port: int = 0) -> None:
        self.views: list[Json] = []  # reports and workspaces: id, type, name, displayName, ..., spec as parsed JSON
        self.unknown: list[str] = []  # requests that this server cannot answer
        self.asked: list[str] = []  # the names of all GraphQL operations, in order
        self.lock = threading.RLock()
        self._runs: dict[tuple[str, str, str], RunOnServer] = {}
        self._faults: dict[str, _Fault] = {}
        self._port = port
        self._http: _Http | None = None

    def __enter__(self) -> "WandbServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._http = _Http(("127.0.0.1", self._port), _handler_of(self))
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse new connections, and cut the open ones."""
        if self._http is not None:
            self._http.stop()
            self._http = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """The environment that makes a process a client of this server."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
        }

    @property
    def runs(self) -> dict[str, RunOnServer]:
        """By id, oldest first; a test has no two projects with one id."""
        return {run.id: run for run in list(self._runs.values())}

    def run(self, run_id: str) -> RunOnServer:
        return self.runs[run_id]

    def fail(self, where: str, status: int | None = 500, times: int | None = None, delay_s: float = 0.0) -> None:
        """Answer `status` at "graphql", "file_stream" or "storage", `times` times (None: until `heal`), after
        `delay_s` seconds. With status None the answers are only late."""
        assert where in ("graphql", "file_stream", "storage")
        self._faults[where] = _Fault(status, times, delay_s)

    def heal(self) -> None:
        """End all faults."""
        self._faults.clear()

    def take_fault(self, where: str) -> int | None:
        """Wait as long as the fault there says; returns the status to answer instead of the truth, or None."""
        with self.lock:
            fault = self._faults.get(where)
            if fault is None or fault.times == 0:
                return None
            if fault.times is not None:
                fault.times -= 1
        time.sleep(fault.delay_s)
        return fault.status

    def find(self, variables: Json, name: str = "name") -> RunOnServer | None:
        """The run that a GraphQL operation's variables name; `name` is the variable with the run's id."""
        return self._runs.get((*place_of(variables), variables[name]))

    def find_or_make(self, entity: str, project: str, run_id: str) -> RunOnServer:
        return self._runs.setdefault((entity, project, run_id), RunOnServer(entity, project, run_id))

    def runs_in(self, entity: str, project: str) -> list[RunOnServer]:
        return [run for run in self._runs.values() if (run.entity, run.project) == (entity, project)]

    def projects_of(self, entity: str) -> list[str]:
        of_views = {view["projectName"] for view in self.views if view["entityName"] == entity}
        return sorted(of_views | {run.project for run in self._runs.values() if run.entity == entity})

    def answer(self, sent: Json) -> Json:
        """Answer one GraphQL request."""
        query, variables = sent["query"], sent.get("variables") or {}
        named = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
        operation = named[1] if named else query
        self.asked.append(operation)
        try:
            return {"data": OPERATIONS[operation](self, variables, query)}
        except (KeyError, NotImplementedError) as error:
            self.unknown.append(f"{operation} {json.dumps(variables)}: {error!r}")
            return {"errors": [{"message": self.unknown[-1]}]}


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients cut their connections when they end, and `stop` cuts them too."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _handler_of(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_any(self) -> None:
            path, body = unquote(self.path.partition("?")[0]), self._body()
            where = next((place for place in ("graphql", "file_stream", "storage") if place in path.split("/")), "")
            if status := server.take_fault(where):
                self._send({"error": "injected"}, status)
            elif where != "storage" and not self._is_known():  # an upload's address is its own key
                self._send({"errors": [{"message": "user is not logged in"}]}, 401)
            else:
                with server.lock:
                    self._send(*self._answer(where, path, body))

        do_GET = do_POST = do_PUT = do_HEAD = do_any  # noqa: N815

        def _answer(self, where: str, path: str, body: bytes) -> tuple[Json, int]:
            parts = path.strip("/").split("/")
            if where == "graphql":
                return server.answer(json.loads(body)), 200
            if where == "file_stream":
                server.find_or_make(*parts[1:4]).add(json.loads(body))
                return {"exitcode": None, "limits": {}}, 200
            if where == "storage" and self.command == "PUT":
                server.find_or_make(*parts[1:4]).uploads["/".join(parts[4:])] = len(body)
                return {}, 200
            server.unknown.append(f"{self.command} {path}")
            return {"error": "not found"}, 404

        def _is_known(self) -> bool:
            return self.headers.get("Authorization") == "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()

        def _body(self) -> bytes:
            chunks = []
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline().partition(b";")[0], 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
            else:
                chunks.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            body = b"".join(chunks)
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _send(self, content: Json, status: int) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


if __name__ == "__main__":
    with WandbServer(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as serving:
        print(serving.url, *(f"{name}={value}" for name, value in serving.environment().items()), sep="\n", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
