"""Settings that are made before torch is imported; conftest.py makes them for the tests."""

import os

import pytest
import torch

from vae_sweeps.system import before_torch


@pytest.fixture
def two_threads():
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("num_images", [24, 64, 300, 1000])
@pytest.mark.parametrize("num_outputs", [16, 100, 500])
@pytest.mark.usefixtures("two_threads")
def test_products_do_not_depend_on_the_number_of_threads(num_images: int, num_outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images, weights = (torch.rand(n, 784, generator=generator) for n in (num_images, num_outputs))
    products = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        products.append(images @ weights.T)
    assert torch.equal(*products)


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("GOMP_SPINCOUNT", "7"), ("MKL_CBWR", "COMPATIBLE")):
        monkeypatch.setenv(name, value)
    before_torch.prepare()
    assert (os.environ["GOMP_SPINCOUNT"], os.environ["MKL_CBWR"]) == ("7", "COMPATIBLE")


@pytest.mark.parametrize(("job", "count"), [(None, "3000"), ("7", "30000")])
def test_threads_wait_longer_where_the_cores_are_those_of_a_job(
    monkeypatch: pytest.MonkeyPatch, job: str | None, count: str
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    before_torch.prepare()
    assert os.environ["GOMP_SPINCOUNT"] == count
