"""What a job does while a pack trains: write rows, draw pictures, show progress, and notify the tracker."""

from collections.abc import Callable

from torch import Tensor

from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.data.dataset import Dataset
from vae_sweeps.launch.draw import PictureDrawer
from vae_sweeps.tracker.link import Link
from vae_sweeps.training.pack import Pack
from vae_sweeps.training.progress import Progress
from vae_sweeps.training.rows import RowWriter


class JobObserver:
    """The `Observer` of a pack that trains in a job."""

    def __init__(
        self,
        pack: Pack,
        dataset: Dataset,
        evaluation: Evaluation,
        *,
        drawer: PictureDrawer,
        link: Link,
        show: Callable[[Progress], None],
    ) -> None:
        self.pack, self.dataset = pack, dataset
        self.rows = RowWriter(pack, dataset, evaluation)
        self.drawer, self.link, self.show = drawer, link, show

    def saved(self, step: int) -> None:
        """Tell the tracker up to which step rows are final."""
        self.link.saved([self.pack.runs[k].folder for k in self.pack.living], step)

    def logged(self, step: int, trace: Tensor) -> None:
        """Draw pictures and then write their rows, so that the tracker finds both."""
        averages = self.rows.averages(step, trace)
        schedule = self.rows.schedule
        if schedule.wants_pictures(step):
            for k in self.pack.living:
                state = self.pack.model_state(k)
                self.drawer.end_of_epoch(self.pack.runs[k], state, self.dataset, step // schedule.steps_per_epoch)
        self.show(self.rows.write(step, averages))
