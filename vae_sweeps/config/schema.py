"""The schema of a point: names, types and allowed values. The defaults stand in conf/*.yaml, for people to read.

A point is one resolved config. Fields marked `numbers=False` cannot change its numbers and are left out of its id. A
key that came later than the first runs has a default here: what those runs did, before there was the key.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

INITS = ("pytorch", "he", "xavier", "truncated_normal")
OUTPUTS = ("identity", "tanh", "sigmoid")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "silu", "gelu", "tanh")


def key(allowed: str, check: Any, *, numbers: bool = True, default: Any = MISSING) -> Any:
    """A config field: `allowed` says in words what `check(value)` accepts."""
    return field(default=default, metadata={"allowed": allowed, "check": check, "numbers": numbers})


def _one_of(*names: str, **more: Any) -> Any:
    return key("one of " + ", ".join(names), lambda v: v in names, **more)


def _at_least(low: float, kind: str = "a number", **more: Any) -> Any:
    return key(f"{kind} >= {low:g}", lambda v: v >= low and v < float("inf"), **more)


def _or_null(low: int, kind: str = "a whole number", **more: Any) -> Any:
    return key(f"{kind} >= {low}, or null", lambda v: v is None or v >= low, **more)


def _free(allowed: str, *, numbers: bool = True, default: Any = MISSING) -> Any:
    return key(allowed, lambda v: True, numbers=numbers, default=default)


def _sigma_is_allowed(sigma: float | str) -> bool:
    return sigma in ("learned", "optimal") if isinstance(sigma, str) else 0 < sigma < float("inf")


@dataclass
class Mnist:
    """Keys of the IDX family; `root` is a place and does not change the numbers: the data's fingerprint does."""

    _target_: str = _free("a function that returns a Dataset")
    root: str | None = _free("a folder", numbers=False)
    binarize: str = _one_of("none", "static", "dynamic")
    pixel_range: list[float] = key("[0,1] or [-1,1]", lambda v: list(v) in ([0, 1], [-1, 1]))
    seed: int = _at_least(0, "a whole number")
    train_on: str = _one_of("train", "all", default="train")


def _widths() -> Any:
    return key("a list of whole numbers >= 1", lambda v: all(n >= 1 for n in v), default=())


def _slope() -> Any:
    return key("a number in [0, 1]", lambda v: 0 <= v <= 1, default=0.01)


def _is_crop(crop: int | str) -> bool:
    return crop in ("center", "none") if isinstance(crop, str) else crop >= 1


def _is_share(share: float) -> bool:
    return 0 < share < 1


@dataclass
class _ImageFiles:
    """Keys of image files; where they are decoded to, and where training reads them, changes no number."""

    _target_: str = _free("a function that returns a Dataset")
    root: str | None = _free("a folder", numbers=False)
    crop: int | str = key("center, none, or a whole number >= 1 (the side of a centred square)", _is_crop)
    size: int | None = _or_null(1)
    channels: int = key("1 (grey) or 3 (colour)", lambda v: v in (1, 3))
    resample: str = _one_of("nearest", "box", "bilinear", "bicubic", "lanczos")
    pixel_range: list[float] = key("[0,1] or [-1,1]", lambda v: list(v) in ([0, 1], [-1, 1]))
    seed: int = _at_least(0, "a whole number")
    cache: str | None = _free("a folder, or null", numbers=False)
    resident: bool | str = key("auto, true or false", lambda v: v in (True, False, "auto"), numbers=False)
    on_bad_file: str = _one_of("error", "skip", numbers=False)


@dataclass
class ImageFolder(_ImageFiles):
    val_share: float = key("a number between 0 and 1", _is_share)
    test_share: float = key("a number between 0 and 1", _is_share)


@dataclass
class Celeba(_ImageFiles):
    label: str | None = _free("an attribute of list_attr_celeba, or null")


@dataclass
class Mlp:
    _target_: str = _free("a function that returns an encoder and a decoder")
    hidden: list[int] = key("a list of whole numbers >= 1, or [] for a linear model", lambda v: all(n >= 1 for n in v))
    activation: str = _one_of(*ACTIVATIONS)
    negative_slope: float = _slope()
    output: str = _one_of(*OUTPUTS, default="identity")
    init: str = _one_of(*INITS, default="pytorch")


@dataclass
class Conv:
    _target_: str = _free("a function that returns an encoder and a decoder")
    channels: list[int] = key(
        "a list of at least one whole number >= 1", lambda v: len(v) >= 1 and all(n >= 1 for n in v)
    )
    kernel: int = key("a whole number from 2 to 11", lambda v: 2 <= v <= 11)
    batch_norm: bool = _free("true or false")
    activation: str = _one_of(*ACTIVATIONS)
    negative_slope: float = _slope()
    downsampling: str = _one_of("stride", "max_pool", default="stride")
    dense: list[int] = _widths()
    start: str = _one_of("dense", "linear", "transposed", default="dense")
    last_conv: int | None = key(
        "an odd number from 1 to 11, or null", lambda v: v is None or (1 <= v <= 11 and v % 2 == 1), default=None
    )
    output: str = _one_of(*OUTPUTS, default="identity")
    init: str = _one_of(*INITS, default="pytorch")


@dataclass
class Bernoulli:
    _target_: str = _free("a likelihood")


@dataclass
class Gaussian:
    _target_: str = _free("a likelihood")
    sigma: int | float | str = key("a number > 0 (a standard deviation), learned, or optimal", _sigma_is_allowed)


@dataclass
class Objective:
    """How the training loss weighs its two terms; see `vae_sweeps.objective` for what each choice is in nats."""

    error: str = _one_of("nll", "squared")
    pixels: str = _one_of("sum", "mean")
    latents: str = _one_of("sum", "mean")
    batch: str = _one_of("mean", "sum")
    warmup_epochs: float = _at_least(0)


@dataclass
class Optim:
    lr: float = key("a number > 0", lambda v: 0 < v < float("inf"))
    betas: list[float] = key("two numbers in [0, 1)", lambda v: len(v) == 2 and all(0 <= b < 1 for b in v))
    eps: float = key("a number > 0", lambda v: 0 < v < float("inf"))
    weight_decay: float = _at_least(0)
    lr_decay_per_epoch: float = key("a number in (0, 1]", lambda v: 0 < v <= 1)
    clip_norm: float | None = key("a number > 0, or null", lambda v: v is None or 0 < v < float("inf"))


@dataclass
class Evaluation:
    """What a finished point is measured by; no part of its id, since evaluating again must not mean training again."""

    features: Any = _free("a group of conf/evaluation/features")
    seed: int = _at_least(0, "a whole number")
    batch_size: int = _at_least(1, "a whole number")
    iwae_samples: int = _at_least(0, "a whole number")
    reconstruction: bool = _free("true or false")
    latent_space: bool = _free("true or false")
    fid: bool = _free("true or false")
    kid: bool = _free("true or false")
    num_images: int | None = _or_null(2)
    mixture_components: int = _at_least(1, "a whole number")
    neighbours: int = _at_least(0, "a whole number")
    max_fit_images: int = _at_least(10, "a whole number")


@dataclass
class Tracker:
    """Which runs W&B is shown, and where; the local files stay the authority."""

    mode: str = _one_of("auto", "online", "offline", "none", default="none")
    entity: str | None = _free("a user or team of W&B, or null for the key's own", default=None)
    project: str = key(
        "a project's name of at most 100 characters, without /",
        lambda v: 0 < len(v) <= 100 and "/" not in v,
        default="vae-sweeps",
    )
    salt: str = key(
        "at most 20 letters, digits, - and _", lambda v: re.fullmatch("[A-Za-z0-9_-]{0,20}", v) is not None, default=""
    )
    tags: list[str] = key(
        "a list of texts of at most 64 characters", lambda v: all(0 < len(tag) <= 64 for tag in v), default=()
    )
    dir: str | None = _free("a folder, or null", default=None)


@dataclass
class Pictures:
    """What a run's pictures show; no part of its id."""

    num_reconstructions: int = key("a whole number >= 1", lambda v: v >= 1, default=40)
    num_samples: int = key("a whole number >= 1", lambda v: v >= 1, default=64)
    columns: int = key("a whole number >= 1", lambda v: v >= 1, default=8)
    traversal_dims: str = _one_of("active", "first", default="active")
    traversal_extent: float = key("a number > 0", lambda v: 0 < v < float("inf"), default=2.0)


@dataclass
class Point:
    """One resolved config: everything that a run's numbers depend on, and where it goes."""

    data: Any = _free("a group of conf/data")
    arch: Any = _free("a group of conf/arch")
    likelihood: Any = _free("a group of conf/likelihood")
    objective: Objective = _free("a group of conf/objective")
    optim: Optim = _free("a group of conf/optim")
    evaluation: Evaluation = _free("a group of conf/evaluation", numbers=False)
    tracker: Tracker = _free("a group of conf/tracker", numbers=False)

    beta: float = _at_least(0)
    latent: int = _at_least(1, "a whole number")
    posterior: str = _one_of("logvar", "softplus", "square", "sigma")
    seed: int = _at_least(0, "a whole number")
    epochs: int | None = key("a whole number >= 1, or null where steps is set", lambda v: v is None or v >= 1)
    steps: int | None = _or_null(1)
    batch_size: int = _at_least(1, "a whole number")
    precision: str = _one_of("fp32", "tf32", "bf16", "fp64")
    towers: int = _at_least(1, "a whole number", default=1)

    device: str = _free("auto, cpu, cuda, cuda:N or mps", numbers=False)
    devices: int = _at_least(1, "a whole number", numbers=False, default=1)
    max_pack: int | None = _or_null(1, numbers=False)
    log_every_steps: int = key("a whole number >= 1", lambda v: v >= 1, numbers=False)
    log_steps: str = _one_of("every", "powers_of_two", numbers=False, default="every")
    pictures_every_epochs: int | None = _or_null(1, numbers=False, default=None)
    pictures_at_epochs: list[int] = key(
        "a list of whole numbers >= 1", lambda v: all(n >= 1 for n in v), numbers=False, default=()
    )
    pictures: Pictures = field(
        default_factory=Pictures,
        metadata={"allowed": "the keys of Pictures", "check": lambda v: True, "numbers": False},
    )
    checkpoint_every_s: float = key("a number >= 0", lambda v: v >= 0, numbers=False)
    output_dir: str = _free("a folder", numbers=False)
    sweep: str | None = _free("a name", numbers=False)
    overwrite: bool = _free("true or false", numbers=False)


@dataclass
class LocalLauncher:
    """On this machine: in this process, or in several."""

    _target_: str = _free("a launcher")
    workers: int | None = _or_null(1)


def _text_or_null() -> Any:
    return _free("a text, or null")


def _is_packs(packs: int | str) -> bool:
    return packs == "auto" if isinstance(packs, str) else packs >= 1


@dataclass
class SlurmLauncher:
    """How a sweep becomes jobs, and what each asks SLURM for: everything that submitit can pass on."""

    _target_: str = _free("a launcher")
    packs: int | str = key("auto, or a whole number >= 1", _is_packs)
    points_per_job: int | None = _or_null(1)
    wait: bool = _free("true or false")
    snapshot: bool = _free("true or false")
    max_num_timeout: int = _at_least(0, "a whole number")

    timeout_min: int = _at_least(1, "a whole number")
    cpus_per_task: int = _at_least(1, "a whole number")
    mem_gb: float | None = key("a number > 0, or null", lambda v: v is None or 0 < v < float("inf"))
    gpus_per_node: int | None = _or_null(0)
    gres: str | None = _text_or_null()
    partition: str | None = _text_or_null()
    account: str | None = _text_or_null()
    qos: str | None = _text_or_null()
    constraint: str | None = _text_or_null()
    nodelist: str | None = _text_or_null()
    exclude: str | None = _text_or_null()
    exclusive: bool | None = _free("true, false or null")
    dependency: str | None = _text_or_null()
    comment: str | None = _text_or_null()
    array_parallelism: int = _at_least(1, "a whole number")
    signal_delay_s: int = _at_least(1, "a whole number")
    setup: list[str] = _free("a list of shell lines")
    srun_args: list[str] = _free("a list of options of srun")
    additional_parameters: dict[str, Any] = _free("options of sbatch by name")
    resources: dict[str, Any] = _free("settings by architecture, as {conv: {mem_gb: 32}}")


# The groups with a schema of their own: (group, choice's schema name) -> dataclass, for Hydra's ConfigStore.
GROUP_SCHEMAS: dict[tuple[str, str], type] = {
    ("data", "mnist_schema"): Mnist,
    ("data", "image_folder_schema"): ImageFolder,
    ("data", "celeba_schema"): Celeba,
    ("arch", "mlp_schema"): Mlp,
    ("arch", "conv_schema"): Conv,
    ("likelihood", "bernoulli_schema"): Bernoulli,
    ("likelihood", "gaussian_schema"): Gaussian,
    ("hydra/launcher", "local_schema"): LocalLauncher,
    ("hydra/launcher", "slurm_schema"): SlurmLauncher,
}
