"""Draw a run's pictures. A picture that fails is logged, and does not affect the run's numbers."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from vae_sweeps.analysis import pictures
from vae_sweeps.data.dataset import Dataset, for_evaluation, to_model
from vae_sweeps.evaluation.model import Model, from_state
from vae_sweeps.evaluation.parts import Drawing, LatentCodes, LatentFactors
from vae_sweeps.runs.run import Run
from vae_sweeps.runs.run_folder import RunFolder

log = logging.getLogger(__name__)

_NUM_SHOWN = 1000  # test images from which pictures are drawn


class PictureDrawer:
    """Draws pictures of runs, and logs the first failure of each run."""

    def __init__(self) -> None:
        self._failed: set[RunFolder] = set()

    def end_of_epoch(self, run: Run, state: dict[str, Tensor], dataset: Dataset, epoch: int) -> None:
        """Draw the model with the tensors `state` of the run, after `epoch` epochs.

        A separate model is built for the pictures, as after training, so drawing does not affect training.
        """
        # Building a user's network may draw global random numbers; restore them.
        with torch.random.fork_rng(devices=[]), self._may_fail(run.folder):
            model = from_state(run.point, state, dataset.image_shape)
            with run.folder.prepared(run.folder.epoch_pictures(epoch)) as target:
                _draw_model(model, dataset, target)

    def end_of_training(self, run: RunFolder, model: Model, dataset: Dataset) -> None:
        """Draw the trained model and its learning curves."""
        from vae_sweeps.analysis import run_plots, style  # matplotlib, which a launch that trains nothing does not need

        with self._may_fail(run), run.prepared(run.pictures) as target:
            _draw_model(model, dataset, target)
            is_log = model.point.log_steps == "powers_of_two"
            curves = run_plots.learning_curves(run.read_rows(), title=run.name, is_log=is_log)
            style.save(curves, target / "curves.png")

    def findings(self, run: RunFolder, to_draw: Iterable[Drawing]) -> None:
        """Draw the pictures of an evaluation."""
        from vae_sweeps.analysis import factor_plots, run_plots, style
        from vae_sweeps.analysis.latent_map import latent_map

        for drawing in to_draw:
            with self._may_fail(run), run.prepared(run.pictures) as target:
                if isinstance(drawing, LatentCodes):
                    style.save(latent_map(drawing.mu, drawing.labels, run.name), target / "latent_map.png")
                    style.save(run_plots.kl_bars(drawing.kl, run.name), target / "kl_bars.png")
                elif isinstance(drawing, LatentFactors):
                    of = (drawing.shares, drawing.names, drawing.kl)
                    style.save(factor_plots.mutual_information(*of, run.name), target / "mutual_information.png")
                    rows = (drawing.images, drawing.latents, drawing.extent)
                    style.save(factor_plots.traversals(*rows, *of, run.name), target / "latent_traversals.png")
                else:
                    picture = pictures.neighbours(drawing.samples, drawing.nearest)
                    pictures.save(picture, target / "neighbours.png")

    @contextlib.contextmanager
    def _may_fail(self, run: RunFolder) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            if run not in self._failed:
                log.warning("%s: pictures not drawn (%s: %s)", run.name, type(error).__name__, error)
            self._failed.add(run)


def _draw_model(model: Model, dataset: Dataset, target: Path) -> None:
    """Draw the model. The noise of its samples depends only on the point's seed and latent size."""
    model.vae.cpu()
    x = to_model(dataset, for_evaluation(dataset, "test")[:_NUM_SHOWN].cpu(), model.dtype)
    pictures.save_run_pictures(model, x, target, seed=model.point.seed, settings=model.point.pictures)
