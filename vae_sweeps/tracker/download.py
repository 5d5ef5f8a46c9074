"""Downloads a sweep's runs from W&B as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import wandb

from vae_sweeps.tracker import account, view
from vae_sweeps.tracker.server import in_short

_TIMEOUT_S = 20
_RUNS_PER_REQUEST = 100
# W&B's states of a run without a result, as the project's; any other state counts as pending.
_STATUS = {
    "running": "running",
    "failed": "failed",
    "crashed": "failed",
    "preempted": "interrupted",
    "preempting": "interrupted",
}


@dataclass(frozen=True)
class Downloaded:
    """One run: its folder's name, its config as nested containers, its status, and its result, None until it ends."""

    run: str
    config: dict[str, Any]
    status: str
    result: dict[str, Any] | None


def download(path: str, group: str | None = None) -> tuple[list[Downloaded], list[str]]:
    """The project's runs, or those of a group, in their sweep's order, and the swept keys.

    Runs that vae-sweeps did not send are left out; if a run is there twice, the newer one counts. Raises a one-line
    ValueError if there are no runs or W&B does not answer.
    """
    entity, _, project = path.partition("/")
    if not entity or not project or "/" in project:
        raise ValueError(f"{path}: must be entity/project")
    account.require_key(path)
    if not account.answers():
        raise ValueError(f"{path}: {account.base_url()} does not answer")
    found = _list(path, {} if group is None else {"group": group})
    if not found:
        groups = {} if group is None else dict.fromkeys(str(run.group) for run in _list(path, {}) if run.group)
        of_group = "" if group is None else f" of group {group}"
        raise ValueError(f"{path}: no runs{of_group}; groups: {', '.join(sorted(groups)) or 'none'}")
    owns = [run.config["vae_sweeps"] for run in found]
    swept = list(dict.fromkeys(key for own in owns for key in own.get("swept") or []))
    by_name = {own["run"]: (own.get("place"), run) for own, run in zip(owns, found, strict=True)}
    names = sorted(by_name, key=lambda name: (by_name[name][0] is None, by_name[name][0] or 0, name))
    return [_downloaded(name, by_name[name][1]) for name in names], swept


def _list(path: str, filters: Mapping[str, Any]) -> list[Any]:
    """The runs that vae-sweeps sent. Not lazy: wandb would then request each run's config separately."""
    try:
        api = wandb.Api(timeout=_TIMEOUT_S)
        runs = list(api.runs(path, filters=dict(filters), per_page=_RUNS_PER_REQUEST, lazy=False))
    except ValueError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    except Exception as error:  # wandb raises errors of its own and of its HTTP client
        raise ValueError(f"{path}: {in_short(error)}") from None
    return [run for run in runs if isinstance(own := run.config.get("vae_sweeps"), dict) and own.get("run")]


def _downloaded(name: str, run: Any) -> Downloaded:
    result = view.result_of(run.summary_metrics)
    if result is not None and "test/elbo" not in result["metrics"]:
        result["metrics"] = {}  # it diverged in training: W&B has only the values of the last row
    status = _STATUS.get(run.state, "pending") if result is None else str(result["status"])
    return Downloaded(name, dict(run.config), status, result)
