"""A sweep of points that ended in every way, written as run folders without training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import make_options, make_point
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder
from vae_sweeps.system import files

ELBO = {f"{split}/{name}": -90.1 - k / 3 for k, split in enumerate(("train", "val", "test")) for name in ("elbo", "kl")}
ELBO |= {f"{split}/log_px": -80.0 for split in ("train", "val", "test")}
SCORES = {f"{score}/random/{s}": 1e-3 / 7 for score in ("fid", "kid") for s in ("prior", "reconstruction", "floor")}
FULL = {"test/iwae": -88.0, "test/collapsed": False, "test/active_units": 3, "probe/accuracy": 0.1 + 0.2, **SCORES}


def done(metrics: Mapping[str, Any] = ELBO, weights: str | None = None, **more: Any) -> dict[str, Any]:
    """A result as it is written at the end of a run."""
    about = {"weights": weights, "accuracy": None, "num_images": 100}
    return {
        "status": "done",
        "step": 350,
        "beta_nats": 1.0,
        "sigma": None,
        "num_params": 84_164,
        "time_s": 2.0,
        "images_per_s": 35_000 / 3,
        "pack_size": 4,
        "git_commit": "0123abc-dirty",
        "finished_at": files.now(),
        "metrics": dict(metrics),
        "evaluated": {"elbo": {"seed": 0}},
        "evaluation_s": {"elbo": 0.25},
        "missing": {"test/ssim": "images of 8x8 are smaller than the window of 11x11"},
        **({"features": {"random": about}} if weights else {}),
        **more,
    }


DIVERGED = done(status="diverged", step=7, git_commit=None)
del DIVERGED["metrics"]
GAUSSIAN = ("likelihood=gaussian", "likelihood.sigma=")
# The points of a sweep in order: overrides, and how the point ended, if it did.
RUNS: list[tuple[tuple[str, ...], dict[str, Any] | None]] = [
    (("beta=1", "latent=2", f"{GAUSSIAN[1]}1"), done(ELBO | FULL, weights="aaa", sigma=1.0)),
    (
        ("beta=4", "latent=2", f"{GAUSSIAN[1]}learned"),
        done(ELBO | FULL, weights="bbb", sigma=0.1 / 3, time_s=0.1 + 0.7),
    ),
    (("beta=0.1", "latent=4", f"{GAUSSIAN[1]}0.5", "arch.hidden=[]"), done({**ELBO, "test/collapsed": True})),
    (("beta=1e38", "latent=10", f"{GAUSSIAN[1]}optimal", "optim.betas=[0,0.5]"), DIVERGED),
    (("beta=0", "latent=2", f"{GAUSSIAN[1]}2", "optim.clip_norm=5"), done(dict.fromkeys(ELBO), status="diverged")),
    (("beta=1e-7", "latent=3", f"{GAUSSIAN[1]}1", "steps=10", "seed=9007199254740993"), None),
]
SWEPT = ["beta", "likelihood.sigma", "optim.lr", "data.pixel_range"]


def write_sweep(output_dir: Path) -> SweepFolder:
    """Write the points of `RUNS` into an output folder, as the sweep `grid`."""
    names = []
    for k, (overrides, result) in enumerate(RUNS):
        names.append(f"mnist5k-mlp-gaussian-{'zyxwvu'[k]}-00000000000{k}")
        run = RunFolder.under(output_dir, names[-1])
        run.create(make_point("data=mnist5k", GAUSSIAN[0], *overrides), make_options(), [])
        if result is not None:
            run.write_result(result)
        else:
            run.checkpoint.touch()
    sweep = SweepFolder.under(output_dir, "grid")
    sweep.add(names, SWEPT)
    return sweep
