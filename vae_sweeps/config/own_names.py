"""The public names that a config can call, and the keys that each takes."""

from vae_sweeps.config.launch_options import AutoFeatures, DatasetFeatures, InceptionFeatures
from vae_sweeps.config.schema import (
    Arrays,
    Bernoulli,
    Celeba,
    ContinuousBernoulli,
    Conv,
    DiscretizedLogistic,
    Gaussian,
    HuggingFace,
    ImageFolder,
    Laplace,
    Mlp,
    Mnist,
    OwnNetworks,
    TorchDataset,
)

OWN: dict[str, type] = {
    "vae_sweeps.data.mnist5k": Mnist,
    "vae_sweeps.data.mnist": Mnist,
    "vae_sweeps.data.fashion_mnist": Mnist,
    "vae_sweeps.data.image_folder": ImageFolder,
    "vae_sweeps.data.celeba": Celeba,
    "vae_sweeps.data.numpy": Arrays,
    "vae_sweeps.data.torch_dataset": TorchDataset,
    "vae_sweeps.data.huggingface": HuggingFace,
    "vae_sweeps.models.mlp": Mlp,
    "vae_sweeps.models.conv": Conv,
    "vae_sweeps.models.custom": OwnNetworks,
    "vae_sweeps.likelihoods.Bernoulli": Bernoulli,
    "vae_sweeps.likelihoods.Gaussian": Gaussian,
    "vae_sweeps.likelihoods.ContinuousBernoulli": ContinuousBernoulli,
    "vae_sweeps.likelihoods.DiscretizedLogistic": DiscretizedLogistic,
    "vae_sweeps.likelihoods.Laplace": Laplace,
    "vae_sweeps.evaluation.features.auto": AutoFeatures,
    "vae_sweeps.evaluation.features.classifier": DatasetFeatures,
    "vae_sweeps.evaluation.features.random": DatasetFeatures,
    "vae_sweeps.evaluation.features.inception": InceptionFeatures,
}
