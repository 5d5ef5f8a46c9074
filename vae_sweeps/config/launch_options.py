"""Launch options: settings of a whole command, which are not part of any point."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vae_sweeps.config.fields import at_least, free, key, one_of, or_null
from vae_sweeps.system import yaml_files


@dataclass
class Evaluation:
    """What is measured after training. Not part of the run id, so it can change without training again."""

    features: Any = free("a group of conf/evaluation/features")
    seed: int = at_least(0, "a whole number")
    batch_size: int = at_least(1, "a whole number")
    elbo_samples: int = at_least(1, "a whole number")
    iwae_samples: int = at_least(0, "a whole number")
    reconstruction: bool = free("true or false")
    latent_space: bool = free("true or false")
    fid: bool = free("true or false")
    kid: bool = free("true or false")
    prdc: bool = free("true or false", default=False)  # launches from before this part have no value
    num_images: int | None = or_null(2)
    mixture_components: int = at_least(1, "a whole number")
    neighbours: int = at_least(0, "a whole number")
    max_fit_images: int = at_least(10, "a whole number")
    factors: bool = free("true or false", default=False)
    extra: Any = free("metrics of your own by name, as in +evaluation.extra.NAME._target_=my_metrics.f", default=None)


def _dataset_later() -> Any:
    return key("true: the function is called later, with the dataset", lambda v: v is True)


@dataclass
class AutoFeatures:
    """Keys of the features that are chosen by what the dataset has."""

    _target_: str = free("a function that returns features")
    _partial_: bool = _dataset_later()
    weights: str | None = free("a file, or null")


@dataclass
class DatasetFeatures:
    """Keys of features that are made from the dataset alone."""

    _target_: str = free("a function that returns features")
    _partial_: bool = _dataset_later()


@dataclass
class InceptionFeatures:
    _target_: str = free("a function that returns features")
    weights: str | None = free("a file, or null")
    num_features: int = free("one of 64, 192, 768, 2048")


@dataclass
class Tracker:
    """Whether and where runs are mirrored: on W&B, or in event files for TensorBoard, for which `mode` alone counts.

    The run folders remain the source of truth.
    """

    mode: str = one_of("auto", "online", "offline", "none", "tensorboard")
    entity: str | None = free("a user or team of W&B, or null for the default of the API key")
    project: str = key(
        "a project name of at most 100 characters, without /",
        lambda v: 0 < len(v) <= 100 and "/" not in v,
    )
    salt: str = key("at most 20 letters, digits, - and _", lambda v: re.fullmatch("[A-Za-z0-9_-]{0,20}", v) is not None)
    tags: list[str] = key("a list of strings of at most 64 characters", lambda v: all(0 < len(tag) <= 64 for tag in v))
    dir: str | None = free("a folder, or null")


def is_address(entry: str) -> bool:
    """Whether an entry of `on_end` is an address, and not a shell command."""
    return re.match(r"\w+://", entry) is not None


def _is_hook(entry: str) -> bool:
    if not is_address(entry):
        return bool(entry.strip())
    try:
        found = urlsplit(entry)
        return found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0 and " " not in entry
    except ValueError:
        return False


@dataclass(frozen=True)
class LaunchOptions:
    """Devices, folders, evaluation and tracking of a command. No option changes the result of training."""

    device: str = free("auto, cpu, cuda, cuda:N or mps", numbers=False)
    devices: int = at_least(1, "a whole number", numbers=False)
    checkpoint_every_s: float = at_least(0, numbers=False)
    output_dir: str = free("a folder", numbers=False)
    sweep: str | None = free("a name", numbers=False)
    overwrite: bool = free("true or false", numbers=False)
    on_end: list[str] = key(
        "a list of shell commands and http(s) addresses", lambda v: all(map(_is_hook, v)), numbers=False
    )
    evaluation: Evaluation = free("a group of conf/evaluation", numbers=False)
    tracker: Tracker = free("a group of conf/tracker", numbers=False)
    keep_previous_checkpoint: str = one_of("until_done", "always", numbers=False, default="until_done")
    dry_run: bool = free("true or false", numbers=False, default=False)
    optimized_metric: str = free("a column of the table", numbers=False, default="val/elbo")
    graphs: str = one_of("auto", "off", numbers=False, default="auto")


def options_from(content: Mapping[str, Any]) -> LaunchOptions:
    """Launch options from dicts and lists, as `dataclasses.asdict` or `to_record` return them."""
    groups = {"evaluation": Evaluation(**content["evaluation"]), "tracker": Tracker(**content["tracker"])}
    return LaunchOptions(**{"on_end": [], **content, **groups})


def to_record(options: LaunchOptions) -> dict[str, Any]:
    """The options as dicts and lists, as what is launched keeps them: without `on_end` and `dry_run`.

    What others may read has no commands and no secrets, and a dry run keeps nothing.
    """
    return {name: value for name, value in asdict(options).items() if name not in ("on_end", "dry_run")}


def read_options(path: Path) -> LaunchOptions:
    """Read the launch options in a run's folder. Raises ValueError if its keys do not match this version.

    They name nothing to be run at the end, whatever the file says: it may be someone else's.
    """
    try:
        content = yaml_files.load(path.read_text(encoding="utf-8"))
        return options_from({**content.get("options", content), "on_end": []})  # earlier files held nothing else
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not launch options of this version: {error}") from error
