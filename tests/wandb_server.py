"""A stand-in for Weights & Biases' server on loopback: what wandb 0.31 and wandb-workspaces ask of the real one.

By hand: `python -m tests.wandb_server [port]`, then start clients with the environment that it prints.
"""

import base64
import gzip
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

KEY = "standin4" * 5
ENTITY = "somebody"  # whose key it is

_HISTORY, _SUMMARY, _EVENTS, _OUTPUT = "wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl", "output.log"
_LONG_AGO = "2026-01-01T00:00:00Z"
_USER: dict[str, Any] = {
    "id": "VXNlcjox",
    "name": ENTITY,
    "username": ENTITY,
    "entity": ENTITY,
    "email": f"{ENTITY}@localhost",
}
_USER |= {"admin": False, "deletedAt": None, "flags": "{}", "teams": {"edges": []}, "apiKeys": {"edges": []}}

Json = dict[str, Any]


def _parse(line: str) -> Json:
    """The client writes NaN and infinities bare, which is no JSON; the server makes texts of them."""
    return json.loads(line, parse_constant=str)


@dataclass
class RunOnServer:
    """What the server knows of one run."""

    entity: str
    project: str
    id: str
    name: str = ""
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    state: str = "running"  # or finished, failed, preempted
    exit_code: int | None = None
    num_preempting: int = 0
    uploads: dict[str, int] = field(default_factory=dict)  # bytes by the file's name
    raw_config: Json = field(default_factory=dict)  # as W&B wraps it
    lines: dict[str, dict[int, str]] = field(default_factory=dict)  # each streamed file's, by number
    is_stopping: bool = False  # set by a test: somebody pressed Stop
    is_preempting: bool = False

    @property
    def config(self) -> Json:
        return {name: entry["value"] for name, entry in self.raw_config.items() if name != "_wandb"}

    @property
    def history(self) -> list[Json]:
        return [_parse(line) for line in self._streamed(_HISTORY)]

    @property
    def summary(self) -> Json:
        return _parse((self._streamed(_SUMMARY) or ["{}"])[-1])

    @property
    def output(self) -> list[str]:
        return self._streamed(_OUTPUT)

    @property
    def last_step(self) -> int:
        """-1 before the first row."""
        return max((row["_step"] for row in self.history), default=-1)

    def _streamed(self, name: str) -> list[str]:
        return [line for _, line in sorted(self.lines.get(name, {}).items())]

    def add(self, sent: Json) -> None:
        """Take in one message of the file stream; lines that were sent before replace themselves."""
        for name, chunk in (sent.get("files") or {}).items():
            self.lines.setdefault(name, {}).update(enumerate(chunk["content"], start=chunk["offset"]))
        if sent.get("preempting"):
            self.num_preempting += 1
            self.is_preempting = True
        if sent.get("complete"):
            self.exit_code = sent.get("exitcode")
            self.state = "finished" if not self.exit_code else "preempted" if self.is_preempting else "failed"
            self.is_preempting = False
        else:
            self.state = "running"

    def node(self) -> Json:
        """The run with all its fields, as GraphQL has it."""
        history, events = self._streamed(_HISTORY), self._streamed(_EVENTS)
        keys = {name: {"typeCounts": [{"type": "number"}]} for row in self.history for name in row}
        return {
            "__typename": "Run",
            "id": base64.b64encode(f"Run:v1:{self.id}:{self.project}:{self.entity}".encode()).decode(),
            "name": self.id,
            "displayName": self.name or self.id,
            "description": "",
            "notes": self.notes,
            "group": self.group,
            "jobType": self.job_type,
            "tags": self.tags,
            "state": self.state,
            "stopped": self.is_stopping,
            "config": json.dumps(self.raw_config),
            "wandbConfig": json.dumps({"t": self.raw_config.get("_wandb", {}).get("value", {}).get("t", {})}),
            "summaryMetrics": json.dumps(self.summary),
            "systemMetrics": "{}",
            "historyLineCount": len(history),
            "historyTail": json.dumps(history[-1:]),
            "historyKeys": {"lastStep": self.last_step, "sets": [], "keys": keys},
            "eventsLineCount": len(events),
            "eventsTail": json.dumps(events[-1:]),
            "logLineCount": len(self.output),
            "createdAt": _LONG_AGO,
            "heartbeatAt": _LONG_AGO,
            "commit": None,
            "readOnly": False,
            "sweep": None,
            "sweepName": None,
            "user": _USER,
            "projectId": "1",
            "project": _project(self.entity, self.project),
        }


@dataclass
class _Fault:
    status: int | None
    times: int | None
    delay_s: float


class WandbServer:
    """The server and all that it was told. Restarted, it has the same address and still knows everything."""

    def __init__(self, port: int = 0) -> None:
        self.views: list[Json] = []  # reports and workspaces: id, type, name, displayName, ..., spec as parsed JSON
        self.unknown: list[str] = []  # what clients asked and this server has no answer to
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
        """From now on connections are refused, and those that are open are cut."""
        if self._http is not None:
            self._http.stop()
            self._http = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """What makes a process a client of this server."""
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
        return self._runs.get((*_where(variables), variables[name]))

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
            return {"data": _OPERATIONS[operation](self, variables, query)}
        except (KeyError, NotImplementedError) as error:
            self.unknown.append(f"{operation} {json.dumps(variables)}: {error!r}")
            return {"errors": [{"message": self.unknown[-1]}]}


def _where(variables: Json) -> tuple[str, str]:
    """Entity and project, which go by several names."""
    entity = variables.get("entity") or variables.get("entityName") or ENTITY
    return entity, variables.get("project") or variables.get("projectName") or "uncategorized"


def _project(entity: str, name: str) -> Json:
    made = {"id": name, "name": name, "entityName": entity, "entity": {"id": "RW50aXR5OjE=", "name": entity}}
    more = {"createdAt": _LONG_AGO, "isBenchmark": False, "user": None, "description": None, "access": None}
    return made | more | {"internalId": "UHJvamVjdDox", "readOnly": False, "views": None, "__typename": "Project"}


def _page(nodes: Iterable[Json], after: str | None, size: int | None) -> Json:
    """One page of a GraphQL connection; a cursor is a node's place."""
    edges = [{"node": node, "cursor": str(place)} for place, node in enumerate(nodes)]
    begin = int(after) + 1 if after else 0
    page = edges[begin : begin + (size or 50)]
    info = {"endCursor": page[-1]["cursor"] if page else None, "hasNextPage": begin + len(page) < len(edges)}
    return {"edges": page, "totalCount": len(edges), "pageInfo": info | {"__typename": "PageInfo"}}


def _is_match(run: RunOnServer, filters: Mapping[str, Any]) -> bool:
    """Whether the run passes filters in MongoDB's words, as far as this server knows them."""
    facts = {"name": run.id, "group": run.group, "state": run.state, "jobType": run.job_type, "display_name": run.name}

    def passes(key: str, wanted: Any) -> bool:
        if key in ("$or", "$and"):
            return (any if key == "$or" else all)(_is_match(run, inner) for inner in wanted)
        has = run.tags if key == "tags" else [facts[key]]
        if not isinstance(wanted, Mapping):
            return wanted in has
        if list(wanted) != ["$in"]:
            raise NotImplementedError(f"filter {wanted}")
        return any(value in has for value in wanted["$in"])

    return all(passes(key, wanted) for key, wanted in filters.items())


_Operation = Callable[[WandbServer, Json, str], Json]  # of the variables and the query's text; returns the data
_OPERATIONS: dict[str, _Operation] = {
    "ServerFeaturesQuery": lambda *_: {"serverInfo": {"features": []}},
    "OrgFeatureFlags": lambda *_: {"organization": {"featureFlags": []}},
    "OrganizationCoreWeaveOrganizationID": lambda *_: {"entity": {"organization": {"coreWeaveOrganizationId": None}}},
    **dict.fromkeys(("Viewer", "GetViewer", "GetDefaultEntity"), lambda *_: {"viewer": _USER}),
}


def _answers(*operations: str) -> Callable[[_Operation], _Operation]:
    def register(answer: _Operation) -> _Operation:
        _OPERATIONS.update(dict.fromkeys(operations, answer))
        return answer

    return register


@_answers("RunResumeStatus")
def _resume_status(server: WandbServer, variables: Json, query: str) -> Json:
    run = server.find(variables)
    return {"model": _project(*_where(variables)) | {"bucket": run and run.node()}}


@_answers("UpsertBucket")
def _upsert_run(server: WandbServer, variables: Json, query: str) -> Json:
    if "name" not in variables:  # wandb.Api().run(...).update()
        _, _, name, project, entity = base64.b64decode(variables["id"]).decode().split(":")
        variables |= {"name": name, "project": project, "entity": entity}
    is_new = server.find(variables) is None
    run = server.find_or_make(*_where(variables), variables["name"])
    names = {"displayName": "name", "groupName": "group", "jobType": "job_type", "tags": "tags", "notes": "notes"}
    for sent, own in names.items():
        if variables.get(sent) is not None:
            setattr(run, own, variables[sent])
    if variables.get("config"):
        run.raw_config = _parse(variables["config"])
    if variables.get("summaryMetrics"):
        run.lines[_SUMMARY] = {0: variables["summaryMetrics"]}
    return {"upsertBucket": {"bucket": run.node(), "inserted": is_new}}


@_answers("CreateRunFiles")
def _create_files(server: WandbServer, variables: Json, query: str) -> Json:
    base = "/".join((server.url, "storage", *_where(variables), variables["run"]))
    files = [{"name": name, "uploadUrl": f"{base}/{name}"} for name in variables["files"]]
    return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}


@_answers("RunFiles")
def _list_files(server: WandbServer, variables: Json, query: str) -> Json:
    run = server.find(variables, "name")
    if run is None:
        return {"project": _project(*_where(variables)) | {"run": None}}
    names, start = variables.get("fileNames") or [], (variables.get("pattern") or "%").partition("%")[0]
    nodes = [
        {"id": name, "name": name, "sizeBytes": size, "mimetype": None, "updatedAt": _LONG_AGO, "md5": "", "url": "",
         "directUrl": "", "uploadUrl": "/".join((server.url, "storage", run.entity, run.project, run.id, name))}
        for name, size in [*run.uploads.items(), *((name, 0) for name in names if name not in run.uploads)]
        if (not names or name in names) and name.startswith(start)
    ]  # fmt: skip
    page = _page(nodes, variables.get("fileCursor"), variables.get("fileLimit"))
    return {
        "project": _project(run.entity, run.project) | {"run": run.node() | {"fileCount": len(nodes), "files": page}}
    }


@_answers("Run", "RunState", "RunHistoryKeys", "RunFullHistory", "RunStoppedStatus", "QueryRunInfo")
def _one_run(server: WandbServer, variables: Json, query: str) -> Json:
    run = server.find(variables, next(name for name in ("name", "run", "runId") if name in variables))
    if run is None:
        return {"project": _project(*_where(variables)) | {"run": None}}
    rows = [json.dumps(row) for row in run.history[: variables.get("samples") or 500]]
    return {"project": _project(run.entity, run.project) | {"run": run.node() | {"history": rows, "events": []}}}


@_answers("Runs")
def _list_runs(server: WandbServer, variables: Json, query: str) -> Json:
    entity, project = _where(variables)
    if project not in server.projects_of(entity):
        return {"project": None}
    filters = json.loads(variables.get("filters") or "{}")
    runs = [run for run in server.runs_in(entity, project) if _is_match(run, filters)]
    if variables.get("order") == "-created_at":
        runs.reverse()
    # A lazy listing leaves the heavy fields out, and the client asks for them run by run.
    nodes = [{name: value for name, value in run.node().items() if re.search(rf"\b{name}\b", query)} for run in runs]
    page = _page(nodes, variables.get("cursor"), variables.get("perPage"))
    return {"project": _project(entity, project) | {"runCount": len(runs), "runs": page}}


@_answers("RunParquetHistory", "HistoryPage")
def _scan_history(server: WandbServer, variables: Json, query: str) -> Json:
    run = server.find(variables, "runName" if "runName" in variables else "run")
    rows = run.history if run else []
    first, end = variables.get("minStep", 0), variables.get("maxStep", float("inf"))
    page = [json.dumps(row) for row in rows if first <= row["_step"] < end]
    return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": rows}, "history": page}}}


@_answers("SampledHistoryPage")
def _scan_some_keys(server: WandbServer, variables: Json, query: str) -> Json:
    run, spec = server.find(variables, "run"), json.loads(variables["spec"])
    rows = [row for row in (run.history if run else []) if spec["minStep"] <= row["_step"] <= spec["maxStep"]]
    found = [{key: row[key] for key in spec["keys"]} for row in rows if all(key in row for key in spec["keys"])]
    return {"project": {"run": {"sampledHistory": [found]}}}


@_answers("GetProjects")
def _list_projects(server: WandbServer, variables: Json, query: str) -> Json:
    entity, _ = _where(variables)
    nodes = [_project(entity, name) for name in server.projects_of(entity)]
    return {"models": _page(nodes, variables.get("cursor"), variables.get("perPage"))}


@_answers("GetProject", "ProjectInternalId")
def _one_project(server: WandbServer, variables: Json, query: str) -> Json:
    return {"project": _project(*_where({"project": variables.get("name"), **variables}))}


@_answers("CreateProject")
def _create_project(server: WandbServer, variables: Json, query: str) -> Json:
    made = _project(variables["input"]["entityName"], variables["input"]["name"])
    return {"result": {"project": made, "model": made, "inserted": True}}


@_answers("upsertView", "UpsertView2")
def _save_view(server: WandbServer, variables: Json, query: str) -> Json:
    known = next((view for view in server.views if view["id"] == variables.get("id")), None)
    new_id = base64.b64encode(f"View:{len(server.views) + 1}".encode()).decode()
    view = known if known is not None else {"id": new_id}
    view |= {name: value for name, value in variables.items() if name != "id"} | {"spec": json.loads(variables["spec"])}
    if known is None:
        server.views.append(view)
    return {"upsertView": {"view": _view_node(view), "inserted": known is None}}


@_answers("View", "ProjectViews")
def _list_views(server: WandbServer, variables: Json, query: str) -> Json:
    entity, project = _where({"project": variables.get("name"), **variables})
    of_type, name = variables.get("viewType") or "runs", variables.get("viewName")
    found = [
        _view_node(view)
        for view in server.views
        if (view["entityName"], view["projectName"], view["type"]) == (entity, project, of_type)
        and name in (None, view["name"])
    ]
    page = _page(found, variables.get("reportCursor"), variables.get("reportLimit"))
    return {"project": _project(entity, project) | {"allViews": page}}


@_answers("SpecificReport")
def _one_view(server: WandbServer, variables: Json, query: str) -> Json:
    return {"view": next((_view_node(v) for v in server.views if v["id"] == variables["reportId"]), None)}


def _view_node(view: Json) -> Json:
    project = _project(view["entityName"], view["projectName"])
    more = {"createdAt": _LONG_AGO, "updatedAt": _LONG_AGO, "user": _USER, "project": project}
    return view | more | {"spec": json.dumps(view["spec"])}


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
