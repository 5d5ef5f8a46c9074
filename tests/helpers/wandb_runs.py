"""Compares a sweep's runs on W&B with their folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.helpers.wandb_server import WandbServer
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import runs_folder

PICTURES = ("reconstructions", "samples", "interpolations", "traversal")


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The logged numbers of a row on W&B."""
    return {name: v for name, v in row.items() if isinstance(v, int | float) and not name.startswith("_")}


def local_row(row: Mapping[str, Any]) -> dict[str, float]:
    """A row of metrics.jsonl, with the names used on W&B."""
    kept = {name: v for name, v in row.items() if isinstance(v, int | float) and name not in ("step", "num_steps")}
    return {"global_step": row["step"], **kept}


def assert_same(server: WandbServer, output_dir: Path, salt: str = "") -> None:
    """Every run is finished on W&B with the rows, histograms, pictures and summary of its folder, and nothing else."""
    folders = all_runs(output_dir)
    assert len(folders) == len(list(runs_folder(output_dir).iterdir())) == 4
    for folder in folders:
        run = server.run(folder.id + salt)
        rows = folder.read_rows()
        assert [numbers(row) for row in run.history] == [local_row(row) for row in rows]
        for local, shown in zip(rows, run.history, strict=True):
            if "val/kl_per_latent" in local:
                assert sum(shown["val/kl_per_latent"]["values"]) == len(local["val/kl_per_latent"])
        assert {f"pictures/{name}" for name in PICTURES} <= set(run.history[-1])
        assert {run.history[-1][f"pictures/{name}"]["path"] for name in PICTURES} <= set(run.uploads)
        result = folder.read_result()
        assert result is not None
        assert {name: run.summary[name] for name in result["metrics"]} == result["metrics"]
        for name in ("status", "step", "time_s", "num_params", "beta_nats"):
            assert run.summary[name] == result[name]
        assert (run.state, run.exit_code, run.group) == ("finished", 0, "grid")
    ours = [run for run in server.runs.values() if run.id.endswith(salt)]
    assert len(ours) == 4
