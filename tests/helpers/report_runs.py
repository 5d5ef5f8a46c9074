"""Writes run folders in any state, without training, for tests of reports."""

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.conftest import make_options, make_point
from vae_sweeps.analysis import pictures
from vae_sweeps.runs import sealed_config, sweep_folder
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files, yaml_files
from vae_sweeps.system.rng import generator

NUM_STEPS, STEPS_PER_EPOCH, STEP_S = 100, 20, 36.0
SWEPT = ["beta", "latent", "seed"]
FLOOR = {"precision": 0.9, "recall": 0.85, "density": 1.0, "coverage": 0.97}


def metrics(beta: float, latent: int, seed: int) -> dict[str, Any]:
    """Numbers as an evaluation leaves them: the larger beta, the smaller the rate; elbo = log_px - kl."""
    log_px, kl = -150.0 + 3 * latent - 5 * beta - seed, 40.0 * latent / (1 + 10 * beta) + 0.5 * seed
    terms = {"elbo": log_px - kl, "log_px": log_px, "kl": kl}
    found = {f"{split}/{name}": value for split in ("train", "val", "test") for name, value in terms.items()}
    found |= {"test/iwae": terms["elbo"] + 1, "test/active_units": latent, "test/psnr": 12.0 + latent}
    for k, samples in enumerate(("prior", "reconstruction", "floor")):
        found[f"fid/classifier/{samples}"] = 30.0 - latent + k
    shares = {
        "precision": 0.9 - 0.1 * beta,
        "recall": 0.1 * latent,
        "density": 1.0 - 0.1 * beta,
        "coverage": 0.2 * latent,
    }
    found |= {f"prdc/classifier/{name}/prior": value for name, value in shares.items()}
    found |= {"factors/mig": 0.3 + 0.1 * beta - 0.02 * seed, "factors/dci_disentanglement": 0.5 + 0.1 * beta}
    return found | {f"prdc/classifier/{name}/floor": value for name, value in FLOOR.items()}


def rows(beta: float, latent: int, seed: int, num: int = 10) -> list[dict[str, Any]]:
    """The ELBO on its way to that of `metrics`; validation at every other row."""
    end = metrics(beta, latent, seed)["val/elbo"]
    steps = range(NUM_STEPS // num, NUM_STEPS + 1, NUM_STEPS // num)
    found = [{"step": n, "num_steps": NUM_STEPS, "train/elbo": end - NUM_STEPS / n} for n in steps]
    found = [row | {"epoch": row["step"] / STEPS_PER_EPOCH, "time_s": row["step"] * STEP_S} for row in found]
    return [row | ({"val/elbo": row["train/elbo"] - seed} if i % 2 else {}) for i, row in enumerate(found)]


def result(beta: float, latent: int, seed: int, **more: Any) -> dict[str, Any]:
    """A result.json of a point that is done."""
    return {
        "status": "done",
        "step": NUM_STEPS,
        "beta_nats": beta,
        "num_params": 1000,
        "time_s": 1800.0,
        "images_per_s": 100.0,
        "data_fingerprint": "0123456789abcdef",
        "git_commit": "0123abc",
        "torch": "2.0",
        "device": "cpu",
        "host": "here",
        "num_devices": 2,
        "finished_at": files.now(),
        "metrics": metrics(beta, latent, seed),
        "evaluation_s": {"fid": 360.0},
        "missing": {},
        "kl_per_latent": [1.0 / (i + 1) for i in range(latent)],
        **more,
    }


def make_run(output_dir: Path, beta: float, latent: int, seed: int = 0, *overrides: str) -> RunFolder:
    """The folder, with config, rows and pictures, of a point that has not ended."""
    name = f"mnist5k-mlp-beta{beta:g}-latent{latent}-seed{seed}-{len(overrides)}0ff"
    run = RunFolder.under(output_dir, name)
    point = make_point("data=mnist5k", f"beta={beta}", f"latent={latent}", f"seed={seed}", *overrides)
    run.create(point, make_options(), [])
    for row in rows(beta, latent, seed):
        files.append_line(run.rows, row)
    draw(run.pictures, seed)
    return run


def change_config(run: RunFolder, old: str, new: str) -> None:
    """Replace text in the run's config, as if the run had been made with it."""
    changed = yaml_files.load(run.config.read_text().replace(old, new))
    run.config.write_text(sealed_config.seal(changed, run.id, ""))


def rename(sweep: SweepFolder, name: str) -> None:
    """Give the sweep another name, as if it had been launched with it."""
    for path in sweep.points.iterdir():
        path.write_text(files.seal(sweep_folder.read_points(path) | {"sweep": name}))


def draw(folder: Path, seed: int = 0) -> None:
    """Pictures of noise, which compress worst."""
    folder.mkdir(parents=True)
    for name in ("samples", "reconstructions", "traversal"):
        images = torch.rand(64, 1, 28, 28, generator=generator(name, seed))
        pictures.save(pictures.grid(images, 8, (0.0, 1.0)), folder / f"{name}.png")


def make_sweep(
    output_dir: Path,
    name: str = "grid",
    betas: Sequence[float] = (0, 1),
    latents: Sequence[int] = (2, 4),
    num_seeds: int = 2,
) -> SweepFolder:
    """A sweep of points that are all done."""
    runs = []
    for beta, latent, seed in itertools.product(betas, latents, range(num_seeds)):
        runs.append(make_run(output_dir, beta, latent, seed))
        runs[-1].write_result(result(beta, latent, seed))
    sweep = sweep_of(output_dir, name, runs, SWEPT)
    sweep.log_launch({"at": files.now(), "command": ["launch.py", "-m", "beta=0,1", "latent=2,4"], "new": []})
    return sweep


def sweep_of(output_dir: Path, name: str, runs: Sequence[RunFolder], swept: Sequence[str]) -> SweepFolder:
    """A sweep of these runs."""
    sweep = SweepFolder.under(output_dir, name)
    sweep.add([run.name for run in runs], swept)
    return sweep


def delete(folder: Path) -> None:
    """As edited by hand."""
    shutil.rmtree(folder)
