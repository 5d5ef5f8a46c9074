"""The schema of a point: names, types and allowed values. The defaults are in conf/*.yaml, with comments."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from vae_sweeps.config.fields import at_least, free, key, one_of, or_null

INITS = ("pytorch", "he", "xavier", "truncated_normal")
OUTPUTS = ("identity", "tanh", "sigmoid")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "silu", "gelu", "tanh")


def _is_group_or_null(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)


def _sigma_is_allowed(sigma: float | str) -> bool:
    return sigma in ("learned", "optimal") if isinstance(sigma, str) else 0 < sigma < float("inf")


@dataclass
class Mnist:
    """Keys of MNIST and its relatives. `root` is not part of the run id, which has the data's fingerprint instead."""

    _target_: str = free("a function that returns a Dataset")
    root: str | None = free("a folder", numbers=False)
    binarize: str = one_of("none", "static", "dynamic", "larochelle")
    binarize_seed: int = at_least(0, "a whole number")
    pixel_range: list[float] = key("[0,1] or [-1,1]", lambda v: list(v) in ([0, 1], [-1, 1]))
    seed: int = at_least(0, "a whole number")
    train_on: str = one_of("train", "all")


def _widths() -> Any:
    return key("a list of whole numbers >= 1", lambda v: all(n >= 1 for n in v))


def _slope() -> Any:
    return key("a number in [0, 1]", lambda v: 0 <= v <= 1)


def _is_crop(crop: int | str) -> bool:
    return crop in ("center", "none") if isinstance(crop, str) else crop >= 1


def _is_share(share: float) -> bool:
    return 0 < share < 1


@dataclass
class _Mapped:
    """Keys of images in the cache. Where they are stored and read from does not change the numbers."""

    _target_: str = free("a function that returns a Dataset")
    pixel_range: list[float] = key("[0,1] or [-1,1]", lambda v: list(v) in ([0, 1], [-1, 1]))
    seed: int = at_least(0, "a whole number")
    cache: str | None = free("a folder, or null", numbers=False)
    resident: bool | str = key("auto, true or false", lambda v: v in (True, False, "auto"), numbers=False)


@dataclass
class Sprites(_Mapped):
    size: int = key("32 or 64", lambda v: v in (32, 64))
    num_images: int = key("a whole number from 5000 to 100000", lambda v: 5_000 <= v <= 100_000)


@dataclass
class FactorialFile(_Mapped):
    """Keys of published data sets with factors, each of which is a file with all images."""

    root: str | None = free("a folder", numbers=False)
    num_images: int | None = or_null(1000)


@dataclass
class _ImageFiles(_Mapped):
    """Keys of image files."""

    root: str | None = free("a folder", numbers=False)
    crop: int | str = key("center, none, or a whole number >= 1 (the side of a centred square)", _is_crop)
    size: int | None = or_null(1)
    channels: int = key("1 (grey) or 3 (colour)", lambda v: v in (1, 3))
    resample: str = one_of("nearest", "box", "bilinear", "bicubic", "lanczos")
    on_bad_file: str = one_of("error", "skip", numbers=False)


@dataclass
class ImageFolder(_ImageFiles):
    val_share: float = key("a number between 0 and 1", _is_share)
    test_share: float = key("a number between 0 and 1", _is_share)


@dataclass
class _Arrays:
    """Keys of images that are arrays."""

    _target_: str = free("a function that returns a Dataset")
    channels: str = one_of("auto", "first", "last")
    val_share: float = key("a number between 0 and 1", _is_share)
    test_share: float = key("a number between 0 and 1", _is_share)
    binarize: str = one_of("none", "static", "dynamic")
    binarize_seed: int = at_least(0, "a whole number")
    pixel_range: list[float] = key("[0,1] or [-1,1]", lambda v: list(v) in ([0, 1], [-1, 1]))
    seed: int = at_least(0, "a whole number")


@dataclass
class Arrays(_Arrays):
    path: str | None = free("a file", numbers=False)


@dataclass
class HuggingFace(_Arrays):
    path: str | None = free("a folder, or a name on the hub", numbers=False)
    name: str | None = free("a configuration of the data set, or null")
    revision: str | None = free("a commit, tag or branch, or null")
    image: str = free("a column")
    label: str | None = free("a column, or null")


@dataclass
class TorchDataset(_Arrays):
    """Where a data set of the user's own comes from is not part of the run id, which has the data's fingerprint."""

    dataset: Any = key("a group, as in data.dataset._target_=my_data.Shapes", _is_group_or_null, numbers=False)
    val_dataset: Any = key("a group, as in data.val_dataset._target_=my_data.Shapes", _is_group_or_null, numbers=False)
    test_dataset: Any = key(
        "a group, as in data.test_dataset._target_=my_data.Shapes", _is_group_or_null, numbers=False
    )
    version: str = free("any text", numbers=False)


@dataclass
class Celeba(_ImageFiles):
    label: str | None = free("an attribute of list_attr_celeba, or null")


@dataclass
class Mlp:
    _target_: str = free("a function that returns an encoder and a decoder")
    hidden: list[int] = key("a list of whole numbers >= 1, or [] for a linear model", lambda v: all(n >= 1 for n in v))
    activation: str = one_of(*ACTIVATIONS)
    negative_slope: float = _slope()
    output: str = one_of(*OUTPUTS)
    init: str = one_of(*INITS)


@dataclass
class Conv:
    _target_: str = free("a function that returns an encoder and a decoder")
    channels: list[int] = key(
        "a list of at least one whole number >= 1", lambda v: len(v) >= 1 and all(n >= 1 for n in v)
    )
    kernel: int = key("a whole number from 2 to 11", lambda v: 2 <= v <= 11)
    batch_norm: bool = free("true or false")
    activation: str = one_of(*ACTIVATIONS)
    negative_slope: float = _slope()
    downsampling: str = one_of("stride", "max_pool")
    dense: list[int] = _widths()
    start: str = one_of("dense", "linear", "transposed")
    decoder_channels: list[int] | None = key(
        "a list of whole numbers >= 1, or null", lambda v: v is None or all(n >= 1 for n in v), default=None
    )
    last_kernel: int | None = key(
        "a whole number from 2 to 11, or null", lambda v: v is None or 2 <= v <= 11, default=None
    )
    last_conv: int | None = key(
        "an odd number from 1 to 11, or null", lambda v: v is None or (1 <= v <= 11 and v % 2 == 1)
    )
    output: str = one_of(*OUTPUTS)
    init: str = one_of(*INITS)


def _module(name: str, example: str) -> Any:
    return key(f"a group, as in arch.{name}._target_={example}", lambda v: isinstance(v, Mapping))


@dataclass
class OwnNetworks:
    """Keys of an encoder and a decoder of the user's own, each with its own keys."""

    _target_: str = free("a function that returns an encoder and a decoder")
    encoder: Any = _module("encoder", "my_nets.Encoder")
    decoder: Any = _module("decoder", "my_nets.Decoder")


@dataclass
class Bernoulli:
    _target_: str = free("a likelihood")


@dataclass
class Gaussian:
    _target_: str = free("a likelihood")
    sigma: int | float | str = key("a number > 0 (a standard deviation), learned, or optimal", _sigma_is_allowed)


def _scale_is_allowed(scale: float | str) -> bool:
    return scale == "learned" if isinstance(scale, str) else 0 < scale < float("inf")


@dataclass
class ContinuousBernoulli:
    _target_: str = free("a likelihood")


@dataclass
class Laplace:
    _target_: str = free("a likelihood")
    scale: int | float | str = key("a number > 0, or learned", _scale_is_allowed)


@dataclass
class DiscretizedLogistic:
    _target_: str = free("a likelihood")
    scale: int | float | str = key("a number > 0, or learned", _scale_is_allowed)
    pixel_range: list[float] = key("data.pixel_range", lambda v: list(v) in ([0, 1], [-1, 1]))


# The keys of likelihoods whose numbers may differ between points that train together.
OF_EACH = tuple(dict.fromkeys(f.name for likelihood in (Gaussian, Laplace) for f in fields(likelihood)[1:]))


@dataclass
class Objective:
    """How the training loss scales its two terms; `training.objective` converts every choice to nats."""

    error: str = one_of("nll", "squared")
    pixels: str = one_of("sum", "mean")
    latents: str = one_of("sum", "mean")
    batch: str = one_of("mean", "sum")
    warmup_epochs: float = at_least(0)
    schedule: str = one_of("constant", "linear", "cyclical", default="linear")
    cycles: int = at_least(1, "a whole number", default=4)
    cycle_rise: float = key("a number in (0, 1]", lambda v: 0 < v <= 1, default=0.5)
    free_bits: float = at_least(0, default=0.0)
    capacity_gamma: float | None = key(
        "a number > 0, or null", lambda v: v is None or 0 < v < float("inf"), default=None
    )
    capacity_start: float = at_least(0, default=0.0)
    capacity_end: float = at_least(0, default=25.0)
    capacity_steps: int = at_least(1, "a whole number", default=10000)
    custom: Any = key("a group, as in objective.custom._target_=mine.loss", _is_group_or_null, default=None)


@dataclass
class Optim:
    lr: float = key("a number > 0", lambda v: 0 < v < float("inf"))
    betas: list[float] = key("two numbers in [0, 1)", lambda v: len(v) == 2 and all(0 <= b < 1 for b in v))
    eps: float = key("a number > 0", lambda v: 0 < v < float("inf"))
    weight_decay: float = at_least(0)
    lr_decay_per_epoch: float = key("a number in (0, 1]", lambda v: 0 < v <= 1)
    clip_norm: float | None = key("a number > 0, or null", lambda v: v is None or 0 < v < float("inf"))
    algorithm: str = one_of("adam", "adamw", "sgd", "rmsprop", "custom", default="adam")
    momentum: float = key("a number in [0, 1)", lambda v: 0 <= v < 1, default=0.0)
    nesterov: bool = free("true or false", default=False)
    alpha: float = key("a number in [0, 1)", lambda v: 0 <= v < 1, default=0.99)
    lr_schedule: str = one_of("constant", "exponential", "cosine", default="exponential")
    lr_changes: str = one_of("epoch", "step", default="epoch")
    lr_end: float = key("a number in [0, 1]", lambda v: 0 <= v <= 1, default=0.0)
    lr_warmup_epochs: float = at_least(0, default=0.0)
    custom: Any = key("a group, as in optim.custom._target_=torch.optim.NAdam", _is_group_or_null, default=None)


@dataclass
class Pictures:
    """What a run's pictures show. Not part of the run id."""

    num_reconstructions: int = at_least(1, "a whole number")
    num_samples: int = at_least(1, "a whole number")
    columns: int = at_least(1, "a whole number")
    traversal_dims: str = one_of("active", "first")
    traversal_extent: float = key("a number > 0", lambda v: 0 < v < float("inf"))


@dataclass
class Point:
    """One resolved config: everything that a run's numbers depend on, and when it writes rows and pictures."""

    data: Any = free("a group of conf/data")
    arch: Any = free("a group of conf/arch")
    likelihood: Any = free("a group of conf/likelihood")
    objective: Objective = free("a group of conf/objective")
    optim: Optim = free("a group of conf/optim")

    beta: float = at_least(0)
    latent: int = at_least(1, "a whole number")
    posterior: str = one_of("logvar", "softplus", "square", "sigma")
    seed: int = at_least(0, "a whole number")
    epochs: int | None = key("a whole number >= 1, or null if steps is set", lambda v: v is None or v >= 1)
    steps: int | None = or_null(1)
    batch_size: int = at_least(1, "a whole number")
    precision: str = one_of("fp32", "tf32", "bf16", "fp64")
    towers: int = at_least(1, "a whole number")

    max_pack: int | None = or_null(1, numbers=False)
    log_every_steps: int = at_least(1, "a whole number", numbers=False)
    log_steps: str = one_of("every", "powers_of_two", numbers=False)
    pictures_every_epochs: int | None = or_null(1, numbers=False)
    pictures_at_epochs: list[int] = key("a list of whole numbers >= 1", lambda v: all(n >= 1 for n in v), numbers=False)
    pictures: Pictures = free("the keys of pictures", numbers=False)
