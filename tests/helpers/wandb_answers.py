"""What the stand-in for Weights & Biases' server (`wandb_server.py`) keeps of runs, and its answers to GraphQL."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.helpers.wandb_server import WandbServer

ENTITY = "somebody"  # the owner of the API key
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
    """The client writes NaN and infinities bare, which is not JSON; the server turns them into strings."""
    return json.loads(line, parse_constant=str)


@dataclass
class RunOnServer:
    """The server's record of one run."""

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
        """Take in one message of the file stream; lines sent again replace the old ones."""
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


def place_of(variables: Json) -> tuple[str, str]:
    """Entity and project, which have several names."""
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


_Operation = Callable[["WandbServer", Json, str], Json]  # of the variables and the query's text; returns the data
OPERATIONS: dict[str, _Operation] = {
    "ServerFeaturesQuery": lambda *_: {"serverInfo": {"features": []}},
    "OrgFeatureFlags": lambda *_: {"organization": {"featureFlags": []}},
    "OrganizationCoreWeaveOrganizationID": lambda *_: {"entity": {"organization": {"coreWeaveOrganizationId": None}}},
    **dict.fromkeys(("Viewer", "GetViewer", "GetDefaultEntity"), lambda *_: {"viewer": _USER}),
}


def _answers(*operations: str) -> Callable[[_Operation], _Operation]:
    def register(answer: _Operation) -> _Operation:
        OPERATIONS.update(dict.fromkeys(operations, answer))
        return answer

    return register


@_answers("RunResumeStatus")
def _resume_status(server: "WandbServer", variables: Json, query: str) -> Json:
    run = server.find(variables)
    return {"model": _project(*place_of(variables)) | {"bucket": run and run.node()}}


@_answers("UpsertBucket")
def _upsert_run(server: "WandbServer", variables: Json, query: str) -> Json:
    if "name" not in variables:  # wandb.Api().run(...).update()
        _, _, name, project, entity = base64.b64decode(variables["id"]).decode().split(":")
        variables |= {"name": name, "project": project, "entity": entity}
    is_new = server.find(variables) is None
    run = server.find_or_make(*place_of(variables), variables["name"])
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
def _create_files(server: "WandbServer", variables: Json, query: str) -> Json:
    base = "/".join((server.url, "storage", *place_of(variables), variables["run"]))
    files = [{"name": name, "uploadUrl": f"{base}/{name}"} for name in variables["files"]]
    return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}


@_answers("RunFiles")
def _list_files(server: "WandbServer", variables: Json, query: str) -> Json:
    run = server.find(variables, "name")
    if run is None:
        return {"project": _project(*place_of(variables)) | {"run": None}}
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
def _one_run(server: "WandbServer", variables: Json, query: str) -> Json:
    run = server.find(variables, next(name for name in ("name", "run", "runId") if name in variables))
    if run is None:
        return {"project": _project(*place_of(variables)) | {"run": None}}
    rows = [json.dumps(row) for row in run.history[: variables.get("samples") or 500]]
    return {"project": _project(run.entity, run.project) | {"run": run.node() | {"history": rows, "events": []}}}


@_answers("Runs")
def _list_runs(server: "WandbServer", variables: Json, query: str) -> Json:
    entity, project = place_of(variables)
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
def _scan_history(server: "WandbServer", variables: Json, query: str) -> Json:
    run = server.find(variables, "runName" if "runName" in variables else "run")
    rows = run.history if run else []
    first, end = variables.get("minStep", 0), variables.get("maxStep", float("inf"))
    page = [json.dumps(row) for row in rows if first <= row["_step"] < end]
    return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": rows}, "history": page}}}


@_answers("SampledHistoryPage")
def _scan_some_keys(server: "WandbServer", variables: Json, query: str) -> Json:
    run, spec = server.find(variables, "run"), json.loads(variables["spec"])
    rows = [row for row in (run.history if run else []) if spec["minStep"] <= row["_step"] <= spec["maxStep"]]
    found = [{key: row[key] for key in spec["keys"]} for row in rows if all(key in row for key in spec["keys"])]
    return {"project": {"run": {"sampledHistory": [found]}}}


@_answers("GetProjects")
def _list_projects(server: "WandbServer", variables: Json, query: str) -> Json:
    entity, _ = place_of(variables)
    nodes = [_project(entity, name) for name in server.projects_of(entity)]
    return {"models": _page(nodes, variables.get("cursor"), variables.get("perPage"))}


@_answers("GetProject", "ProjectInternalId")
def _one_project(server: "WandbServer", variables: Json, query: str) -> Json:
    return {"project": _project(*place_of({"project": variables.get("name"), **variables}))}


@_answers("CreateProject")
def _create_project(server: "WandbServer", variables: Json, query: str) -> Json:
    made = _project(variables["input"]["entityName"], variables["input"]["name"])
    return {"result": {"project": made, "model": made, "inserted": True}}


@_answers("upsertView", "UpsertView2")
def _save_view(server: "WandbServer", variables: Json, query: str) -> Json:
    known = next((view for view in server.views if view["id"] == variables.get("id")), None)
    new_id = base64.b64encode(f"View:{len(server.views) + 1}".encode()).decode()
    view = known if known is not None else {"id": new_id}
    view |= {name: value for name, value in variables.items() if name != "id"} | {"spec": json.loads(variables["spec"])}
    if known is None:
        server.views.append(view)
    return {"upsertView": {"view": _view_node(view), "inserted": known is None}}


@_answers("View", "ProjectViews")
def _list_views(server: "WandbServer", variables: Json, query: str) -> Json:
    entity, project = place_of({"project": variables.get("name"), **variables})
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
def _one_view(server: "WandbServer", variables: Json, query: str) -> Json:
    return {"view": next((_view_node(v) for v in server.views if v["id"] == variables["reportId"]), None)}


def _view_node(view: Json) -> Json:
    project = _project(view["entityName"], view["projectName"])
    more = {"createdAt": _LONG_AGO, "updatedAt": _LONG_AGO, "user": _USER, "project": project}
    return view | more | {"spec": json.dumps(view["spec"])}
