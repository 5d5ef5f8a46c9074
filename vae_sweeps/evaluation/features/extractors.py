"""Features that need no labels, and the default choice of features."""

import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_sweeps.data.dataset import Dataset
from vae_sweeps.evaluation.features.base import Extractor, Features, Standardised, weights_hash
from vae_sweeps.evaluation.features.trained import classifier
from vae_sweeps.system.rng import generator

_RANDOM_WIDTH = 64

_INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
_INCEPTION_SHA256 = "6726825d"  # its first digits, which torch.hub checks


def auto(dataset: Dataset, weights: str | None) -> Features:
    """The classifier if the images have labels, else Inception if its weights are given, else random features."""
    if dataset.labels is not None:
        return classifier(dataset)
    return random(dataset) if weights is None else inception(weights)


def random(dataset: Dataset) -> Features:
    """Standardised features of a convolutional network with fixed random weights, which depend only on the channels."""

    def load() -> Extractor:
        module = Standardised(_random_network(dataset.image_shape[0]), _RANDOM_WIDTH).fit(dataset).eval()
        return Extractor(module, weights_hash(module))

    return Features("random", _RANDOM_WIDTH, load)


class _MeanAndSpread(nn.Module):
    """[N,C,H,W] -> mean and standard deviation of every channel over its positions, [N,2C]."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        return torch.cat([flat.mean(2), flat.std(2, correction=0)], 1)


def _random_network(num_channels: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # Conv2d draws weights, which are replaced below
        convolutions = [nn.Conv2d(num_channels, 32, 5, stride=2, padding=2), nn.Conv2d(32, 32, 5, stride=2, padding=2)]
    draw = generator("random features", num_channels)
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu", generator=draw)
        assert convolution.bias is not None
        nn.init.normal_(convolution.bias, std=0.1, generator=draw)
    first, second = convolutions
    return nn.Sequential(first, nn.ReLU(), second, _MeanAndSpread()).eval().requires_grad_(False)


class _Inception(nn.Module):
    """Converts images [N,C,H,W] in [0,1] to Inception v3's input: bytes, with a grey channel repeated three times."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N d"]:
        return self.network((255 * images).round().to(torch.uint8).expand(-1, 3, -1, -1))


def inception(weights: str | None = None, num_features: int = 2048) -> Features:
    """Inception v3 with torch-fidelity's conversion of the weights that FID was published with (Heusel et al. 2017).

    Raises ValueError if the extra is not installed, the weights file is missing, or there is no such layer.
    """
    if num_features not in (64, 192, 768, 2048):
        raise ValueError(f"evaluation.features.num_features={num_features}: must be one of 64, 192, 768, 2048")
    _need_torch_fidelity()
    path = _weights_path(weights)
    if not path.is_file():
        raise ValueError(
            f"evaluation.features.weights={weights or 'null'}: no weights at {path}; "
            "`vae-sweeps prefetch evaluation/features=inception` downloads them"
        )
    name = "inception" if num_features == 2048 else f"inception{num_features}"
    return Features(name, num_features, lambda: _load_inception(path, num_features))


def download_inception(weights: str | None = None) -> Path:
    """Download the weights if they are missing; returns their path. Raises ValueError if the download fails."""
    path = _weights_path(weights)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(_INCEPTION_URL, str(path), hash_prefix=_INCEPTION_SHA256)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{_INCEPTION_URL}: cannot be downloaded ({error}); fetch it elsewhere and "
                "set evaluation.features.weights=FILE"
            ) from error
    return path


def _need_torch_fidelity() -> None:
    if importlib.util.find_spec("torch_fidelity") is None:
        raise ValueError(
            "evaluation/features=inception: needs the extra `inception`, which is not installed; "
            "`.venv/bin/pip install -e .[inception]` installs it"
        )


def _weights_path(weights: str | None) -> Path:
    if weights is not None:
        return Path(weights).expanduser().resolve()
    return Path(torch.hub.get_dir()) / "checkpoints" / _INCEPTION_URL.rpartition("/")[2]


def _load_inception(path: Path, num_features: int) -> Extractor:
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        network = NoTrainInceptionV3("inception-v3-compat", [str(num_features)], str(path))
    except Exception as error:
        raise ValueError(f"{path}: not the weights of Inception v3 in torch-fidelity's format") from error
    module = _Inception(network.requires_grad_(False)).eval()
    return Extractor(module, weights_hash(module))
