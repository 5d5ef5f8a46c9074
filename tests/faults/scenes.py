"""Where faults happen: sweeps, their undisturbed and half-trained copies, and the commands that train them."""

import contextlib
import random
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.processes import Ended, Running, Zygote
from tests.helpers.slurm_cluster import Cluster
from vae_sweeps.runs.finding import all_runs
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.runs.sweep_folder import SweepFolder

SWEEP = "faults"
_COMMON = ("-m", "arch.hidden=[40]", "steps=300", "evaluation=none", "checkpoint_every_s=0.03", "log_every_steps=30")
_COMMON += ("tracker=none", f"sweep={SWEEP}", "beta=0.01,0.1,1")
_TEMPLATE_USES = 20  # half-trained copies are made anew after so many uses, killed at another moment


@dataclass(frozen=True)
class Grid:
    """A sweep. `alone`: each point trains in a pack of its own, so that its bits do not depend on the others.

    In a larger pack they do, by rounding, so a pack that falls apart gives other bits.
    """

    name: str
    latents: tuple[int, ...]
    alone: bool
    images: bool = False

    @property
    def arguments(self) -> list[str]:
        """The command's arguments, but for the output folder and the images."""
        latents = "latent=" + ",".join(map(str, self.latents))
        return [*_COMMON, latents, *(["max_pack=1"] if self.alone else []), *(["data=image_folder"] * self.images)]

    def has(self, run: RunFolder) -> bool:
        """Whether the run is one of its points."""
        return any(f"-latent{latent}-" in run.name for latent in self.latents)


SIX = Grid("six", (2, 5), alone=False)
SIX_ALONE = Grid("six-alone", (2, 5), alone=True)
NINE = Grid("nine", (2, 5, 8), alone=False)
NINE_ALONE = Grid("nine-alone", (2, 5, 8), alone=True)
IMAGES = Grid("images", (2, 5), alone=False, images=True)


@dataclass
class Scene:
    """One fault's folder, its sweep, its random numbers, and everything that was launched in it."""

    stock: "Stock"
    folder: Path
    grid: Grid
    rng: random.Random
    zygote: Zygote | None = None
    ended: list[Ended] = field(default_factory=list)
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.folder / "out"

    @property
    def sweep(self) -> SweepFolder:
        return SweepFolder.under(self.out, SWEEP)

    @property
    def image_cache(self) -> Path:
        return self.folder / "cache"

    def arguments(self, grid: Grid | None = None) -> list[str]:
        """The arguments of the command that trains the sweep."""
        images = [f"data.root={self.stock.images}", f"data.cache={self.image_cache}", "data.size=8"]
        grid = grid or self.grid
        return [*grid.arguments, f"output_dir={self.out}", *(images if grid.images else [])]

    def start(
        self,
        *more: str,
        zygote: Zygote | None = None,
        grid: Grid | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Running:
        """Start the command."""
        zygote = zygote or self.zygote or self.stock.zygote
        return zygote.start("launch.py", *self.arguments(grid), *more, environment=environment)

    def wait(self, running: Running) -> Ended:
        """Wait for a command, and remember how it ended."""
        self.ended.append(running.wait())
        return self.ended[-1]

    def launch(self, *more: str, zygote: Zygote | None = None, grid: Grid | None = None) -> Ended:
        """Run the command to its end."""
        return self.wait(self.start(*more, zygote=zygote, grid=grid))

    def ask(self, *arguments: object) -> Ended:
        """Run `vae-sweeps ...` to its end."""
        zygote = self.zygote or self.stock.zygote
        return self.wait(zygote.start("vae-sweeps", *arguments))

    def runs(self) -> list[RunFolder]:
        return all_runs(self.out)

    def clean(self) -> None:
        """Undo what outlives the folder, such as mounts."""
        self.undo.close()

    def moment(self) -> float:
        """A random moment in the life of a launch, in seconds after its start."""
        return self.rng.uniform(0, 1.05 * self.stock.duration_s(self.grid))

    def pause(self, seconds: float, running: Running) -> None:
        """Wait, but not longer than the command runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and running.is_running():
            time.sleep(0.01)


class Stock:
    """What all faults of a campaign share: the process that starts commands, undisturbed and half-trained sweeps."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.images = folder, folder / "images"
        self._rng = random.Random(seed)
        self._durations: dict[Grid, float] = {}
        self._templates: dict[Grid, tuple[Path, int]] = {}
        self._zygotes: list[Zygote] = []
        self._named: dict[str, Zygote] = {}
        self.cluster: Cluster | None = None
        self.undo = contextlib.ExitStack()
        self.cache = folder / "xdg"
        self.cache.mkdir(exist_ok=True)
        self.zygote = self.new_zygote()
        _draw_images(self.images)

    def new_zygote(self, *prefix: str, **environment: str) -> Zygote:
        """Another process that starts commands, for example in namespaces of its own."""
        folder = self.folder / f"commands-{len(self._zygotes)}"
        self._zygotes.append(Zygote(folder, prefix, {"XDG_CACHE_HOME": str(self.cache), **environment}))
        return self._zygotes[-1]

    def named_zygote(self, name: str, *prefix: str, **environment: str) -> Zygote:
        """The zygote of this name, made when it is first asked for."""
        if name not in self._named:
            self._named[name] = self.new_zygote(*prefix, **environment)
        return self._named[name]

    def close(self) -> None:
        """End everything that was started."""
        self.undo.close()
        for zygote in self._zygotes:
            zygote.close()

    def scene(self, folder: Path, grid: Grid, rng: random.Random) -> Scene:
        """A new scene, in an empty folder."""
        folder.mkdir(parents=True)
        return Scene(self, folder, grid, rng)

    def reference(self, grid: Grid) -> Path:
        """The output folder of the undisturbed sweep."""
        folder = self.folder / f"undisturbed-{grid.name}"
        if not folder.exists():
            scene = self.scene(folder, grid, self._rng)
            began = time.monotonic()
            ended = scene.launch()
            assert ended.code == 0, ended.output
            self._durations[grid] = time.monotonic() - began
        return folder / "out"

    def duration_s(self, grid: Grid) -> float:
        """How long the undisturbed launch took."""
        self.reference(grid)
        return self._durations[grid]

    def copy_finished(self, scene: Scene) -> None:
        """Give the scene a finished sweep."""
        shutil.copytree(self.reference(scene.grid), scene.out)

    def copy_unfinished(self, scene: Scene) -> None:
        """Give the scene a sweep that was killed while it trained, with at least one run that can be resumed."""
        path, uses = self._templates.get(scene.grid, (None, 0))
        if path is None or uses >= _TEMPLATE_USES:
            path, uses = self._new_template(scene.grid), 0
        self._templates[scene.grid] = path, uses + 1
        shutil.copytree(path, scene.out)

    def _new_template(self, grid: Grid) -> Path:
        self.reference(grid)
        for _ in range(100):
            folder = self.folder / f"killed-{grid.name}-{time.monotonic_ns()}"
            scene = self.scene(folder, grid, self._rng)
            wanted = self._rng.randint(90, 240)
            running = scene.start()
            while running.is_running() and not _has_reached(scene, wanted):
                time.sleep(0.002)
            running.send(signal.SIGKILL)
            running.wait()
            if any(is_resumable(run) for run in scene.runs()):
                return scene.out
            shutil.rmtree(folder)
        raise AssertionError("launches end before they can be killed")


def is_resumable(run: RunFolder) -> bool:
    """Whether the run has not ended, and has a checkpoint and one before it."""
    return run.checkpoint.exists() and run.previous_checkpoint.exists() and not run.result.exists()


def _has_reached(scene: Scene, step: int) -> bool:
    """Whether a run that has not ended has this row, and two checkpoints."""
    runs = [run for run in scene.runs() if is_resumable(run)]
    return any(f'"step": {step // 30 * 30},' in run.rows.read_text() for run in runs if run.rows.exists())


def _draw_images(folder: Path) -> None:
    """300 small grey images: a bright square somewhere."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(300):
        pixels = rng.integers(0, 60, (12, 12), dtype=np.uint8)
        row, column = rng.integers(0, 8, 2)
        pixels[row : row + 4, column : column + 4] = 200
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
