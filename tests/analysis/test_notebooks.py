"""The notebooks in analysis/ run on real sweeps, and their results are correct.

Each is executed as a student would, with papermill's parameters; its variables are read when it has ended.
"""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from tests.conftest import ROOT, launch
from tests.helpers.wandb_server import WandbServer
from vae_sweeps.analysis.table import results

FOLDER = ROOT / "analysis"
NAMES = [
    "01_autoencoder_or_vae",
    "02_how_many_latents",
    "03_sigma_is_beta",
    "04_rate_distortion",
    "05_inside_one_run",
    "06_from_wandb",
    "07_factors",
]
TINY = ["-m", "arch.hidden=[32]", "latent=5"]
LATENTS = ["-m", "sweep=latents", "arch.hidden=[32]", "beta=0,1", "latent=2,5", "seed=0,1", "epochs=4"]
LATENTS += ["evaluation/features=random", "evaluation.num_images=200", "evaluation.max_fit_images=500"]
LATENTS += ["evaluation.iwae_samples=5", "evaluation.prdc=true"]
SIGMAS = [*TINY, "sweep=sigmas", "likelihood=gaussian", "likelihood.sigma=0.2,0.4,learned,optimal", "beta=0.25,1,4"]
SIGMAS += ["epochs=8", "evaluation=none", "tracker=none"]
GREY = [*TINY, "sweep=grey", "likelihood=bernoulli,continuous_bernoulli,discretized_logistic", "epochs=8"]
GREY += ["evaluation/features=random", "evaluation.num_images=200", "evaluation.max_fit_images=500"]
GREY += ["evaluation.iwae_samples=5", "evaluation.prdc=true", "tracker=none"]
LINEAR = ["-m", "sweep=linear", "likelihood=gaussian", "likelihood.sigma=0.2", "arch.hidden=[],[32]", "latent=5"]
LINEAR += ["beta=0.3,3,30", "epochs=8", "optim.lr=0.01", "evaluation=none", "tracker=none"]

FACTORS = ["-m", "experiment=sprites_beta", "sweep=factors", "beta=0,4", "seed=0,1", "data.num_images=5000"]
FACTORS += ["steps=200", "evaluation=none", "tracker=none"]


def test_the_docs_list_all_notebooks_in_order() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES
    page = (ROOT / "docs" / "notebooks.md").read_text()
    assert all(f"analysis/{name}.ipynb" in page for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs_and_names_its_sweep_in_one_cell(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert "widgets" not in notebook.metadata
    (parameters,) = (cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    assert cells[0] is parameters
    assert "sweep =" in parameters.source
    assert "output_dir =" in parameters.source
    assert any("vae_sweeps.results" in cell.source for cell in cells)


@pytest.fixture(scope="module")
def server() -> Iterator[WandbServer]:
    with WandbServer() as serving:
        yield serving


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, server: WandbServer) -> Path:
    """The output folder of the sweeps latents (also on W&B), sigmas, grey, linear and factors."""
    folder = tmp_path_factory.mktemp("outputs")
    environment = {"latents": server.environment() | {"WANDB_ENTITY": "team"}}
    sweeps = {"latents": LATENTS, "sigmas": SIGMAS, "grey": GREY, "linear": LINEAR, "factors": FACTORS}
    for name, command in sweeps.items():
        done = launch(*command, f"output_dir={folder}", environment=environment.get(name))
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def execute(name: str, outputs: Path, reads: list[str], **parameters: Any) -> dict[str, Any]:
    """Run the notebook and return the final values of its variables `reads`."""
    folder = outputs / "notebooks"
    folder.mkdir(exist_ok=True)
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    at = folder / f"{name}.pickle"
    last = f"import pickle\npickle.dump({{name: globals()[name] for name in {reads}}}, open({str(at)!r}, 'wb'))"
    notebook.cells.append(nbformat.v4.new_code_cell(last))
    nbformat.write(notebook, folder / f"{name}.ipynb")
    papermill.execute_notebook(
        folder / f"{name}.ipynb",
        folder / f"{name}-executed.ipynb",
        parameters={"output_dir": str(outputs), **parameters},
        cwd=FOLDER,
        progress_bar=False,
    )
    return pickle.loads(at.read_bytes())


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_without_the_kl_term_the_rate_is_the_largest(outputs: Path) -> None:
    reads = ["table", "summary", "prior", "mixture", "spread", "scale"]
    found = execute("01_autoencoder_or_vae", outputs, reads, sweep="latents", latent=5)
    table, summary = found["table"], found["summary"]
    assert set(table["latent"]) == {5}
    for _, seed in table.groupby("seed"):
        assert seed.loc[seed["test/kl"].idxmax(), "beta"] == 0
    assert summary["n"].tolist() == [2, 2]
    assert found["prior"] == "fid/random/prior"
    assert summary[[found["prior"], found["mixture"]]].notna().all(axis=None)
    # Without the KL term, the codes spread out and q(z|x) becomes narrower.
    assert found["spread"][0] > found["spread"][1]
    assert found["scale"][0] < found["scale"][1]


@pytest.mark.slow
def test_active_units_are_never_above_latent_size(outputs: Path) -> None:
    found = execute("02_how_many_latents", outputs, ["table", "kl", "moved"], sweep="latents")
    assert (found["table"]["test/active_units"] <= found["table"]["latent"]).all()
    assert set(found["moved"]) == {2, 5}
    assert all(0 <= moved <= 1 for moved in found["moved"].values())
    chosen = found["table"].query("beta == 1 and latent == 5 and seed == 0")
    assert found["kl"].sum().item() == pytest.approx(chosen["test/kl"].item(), rel=1e-4)


@pytest.mark.slow
def test_points_of_equal_beta_sigma_squared_differ_only_in_their_elbo(outputs: Path) -> None:
    reads = ["table", "spread", "free", "same", "grey", "levels"]
    found = execute("03_sigma_is_beta", outputs, reads, sweep="sigmas", of_likelihoods="grey")
    spread = found["spread"]
    assert [round(level, 6) for level, _ in spread.index] == [0.04, 0.16]  # 0.2^2 and 0.25 * 0.4^2, four times that
    for column in ("test/kl", "test/squared_error"):
        assert spread[column, "max"].to_numpy() == pytest.approx(spread[column, "min"].to_numpy(), rel=0.01)
    assert (spread["test/elbo", "max"] - spread["test/elbo", "min"] > 10).all()
    best = found["same"].groupby("level")["test/best_elbo"].agg(["min", "max"])
    assert (best["max"] - best["min"] < 2).all()
    assert (found["table"]["test/best_elbo"] >= found["table"]["test/elbo"]).all()
    assert set(found["grey"]["likelihood"]) == {"bernoulli", "continuousbernoulli", "discretizedlogistic"}
    assert (found["levels"]["test/bits_per_dim"] < 8).all()  # those of uniform levels
    # This is a running mean over a hundred batches, so it lags slightly behind an error that still falls.
    optimal = found["free"].query("`likelihood.sigma` == 'optimal'")
    assert optimal["sigma"].to_numpy() == pytest.approx(optimal["train/best_sigma"].to_numpy(), rel=0.2)


@pytest.mark.slow
def test_no_linear_vae_is_below_the_exact_curve(outputs: Path) -> None:
    found = execute("04_rate_distortion", outputs, ["compared", "eigenvalues", "curve", "rates"], sweep="linear")
    compared = found["compared"]
    assert compared["beta"].tolist() == [0.3, 3, 30]
    # One posterior sample for each of 3,500 images: the error's own standard error is below 0.5 %.
    assert (compared["excess"] > -0.01 * compared["squared_error"]).all()
    assert (compared["excess"] < 0.2 * compared["squared_error"]).all()
    assert (compared["rate"].diff().dropna() < 0).all()
    at_no_rate = found["curve"].squared_error[0].item()
    assert at_no_rate == pytest.approx(found["eigenvalues"].sum().item())


@pytest.mark.slow
def test_results_computed_by_hand_from_a_run_agree_with_the_table(outputs: Path) -> None:
    reads = ["row", "elbo", "num_active", "found", "held_out", "table"]
    read = execute("05_inside_one_run", outputs, reads, sweep="latents")
    row = read["row"]
    assert row["val/elbo"] == read["table"]["val/elbo"].max()
    assert read["elbo"] == pytest.approx(row["test/elbo"], abs=1.0)  # one posterior sample for each of 1,000 images
    assert read["num_active"] == row["test/active_units"]
    assert len(read["found"].which) == 16
    assert (np.asarray(read["found"].distance) > 0).all()
    assert (np.asarray(read["held_out"].distance) > 0).all()


@pytest.mark.slow
def test_the_table_from_wandb_equals_the_one_from_the_folders(
    outputs: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    (run, *_) = server.runs.values()
    path = f"{run.entity}/{run.project}"
    read = execute("06_from_wandb", outputs, ["remote", "is_here"], sweep="latents", path=path)
    assert read["is_here"]
    pd.testing.assert_frame_equal(read["remote"], results("latents", outputs), check_exact=True)
    assert server.unknown == []


@pytest.mark.slow
def test_the_scores_of_disentanglement_are_those_of_the_seeds(outputs: Path) -> None:
    reads = ["table", "summary", "spread", "best", "worst"]
    found = execute("07_factors", outputs, reads, sweep="factors")
    table, summary, mig = found["table"], found["summary"].set_index("beta"), "factors/mig"
    for _, seed in table.groupby("seed"):  # a larger weight of the KL leaves less of it, and worse reconstructions
        assert seed.loc[seed["test/kl"].idxmax(), "beta"] == seed.loc[seed["test/log_px"].idxmax(), "beta"] == 0
    for beta, row in found["spread"].iterrows():
        assert (row["count"], row["mean"]) == (2, pytest.approx(summary.loc[beta, mig]))
        assert row["max"] - row["min"] == pytest.approx(2 * summary.loc[beta, f"{mig}/se"])  # as of any two numbers
    assert found["worst"][mig] == found["spread"]["min"].min()
    assert found["best"][mig] == found["spread"]["max"].max()


@pytest.mark.slow
def test_a_sweep_that_does_not_fit_is_refused_in_one_sentence(outputs: Path) -> None:
    with pytest.raises(PapermillExecutionError) as refused:
        execute("03_sigma_is_beta", outputs, [], sweep="latents")
    assert refused.value.ename == "ValueError"
    words = "this sweep of 8 points lacks several values of likelihood.sigma, numbers in sigma; run python"
    assert refused.value.evalue.startswith(words)
