"""The names that configs and users' code may rely on. Files can move; these addresses stay."""

import importlib
import re

import pytest

from tests.conftest import ROOT

PUBLIC = {
    "vae_sweeps": {"load", "results"},
    "vae_sweeps.data": {
        "Dataset",
        "Factors",
        "celeba",
        "dsprites",
        "fashion_mnist",
        "fingerprint",
        "huggingface",
        "image_folder",
        "mnist",
        "mnist5k",
        "numpy",
        "shapes3d",
        "sprites",
        "torch_dataset",
    },
    "vae_sweeps.evaluation.features": {"Features", "auto", "classifier", "inception", "random"},
    "vae_sweeps.likelihoods": {"Bernoulli", "ContinuousBernoulli", "DiscretizedLogistic", "Gaussian", "Laplace"},
    "vae_sweeps.testing": {"check_architecture", "check_dataset", "check_likelihood"},
    "vae_sweeps.models": {"Networks", "VAE", "conv", "custom", "mlp"},
}


@pytest.mark.parametrize("package", PUBLIC)
def test_a_package_exports_its_public_names(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) == PUBLIC[package]
    for name in PUBLIC[package]:
        assert callable(getattr(module, name))


def targets_of_conf() -> set[str]:
    """Our own addresses that the files in conf/ name."""
    return {
        target
        for path in (ROOT / "conf").rglob("*.yaml")
        for target in re.findall(r"^_target_: (vae_sweeps\S+)", path.read_text(), re.MULTILINE)
    }


def test_configs_name_only_public_addresses() -> None:
    assert targets_of_conf()
    assert targets_of_conf() <= {f"{package}.{name}" for package, names in PUBLIC.items() for name in names}
