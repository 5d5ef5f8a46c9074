"""The checks pass for what keeps a contract, and say in one sentence what is wrong with what does not."""

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.own_parts import Branching, Decoder, Encoder, NotFlat, StudentT, TooFew, TwoPerPixel
from vae_sweeps import likelihoods
from vae_sweeps.data.dataset import Dataset, fingerprint
from vae_sweeps.testing import check_architecture, check_dataset, check_likelihood

SHAPE = (1, 8, 8)
LEVELS = [i / 255 for i in range(256)]


class SquareError(nn.Module):
    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return -(x - params).square().sum(-1)

    def mean(self, params: Tensor) -> Tensor:
        return params


class SumOfAll(StudentT):
    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return super().log_prob(params, x).sum()


class WrongMean(StudentT):
    def mean(self, params: Tensor) -> Tensor:
        return params + 0.1


class WrongSamples(StudentT):
    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        return params + 1 + torch.rand(params.shape, generator=generator, dtype=params.dtype)


def test_our_own_likelihoods_keep_the_contract() -> None:
    check_likelihood(likelihoods.Bernoulli(1), levels=[0, 1])
    check_likelihood(likelihoods.Gaussian(1, [0.3]))
    check_likelihood(likelihoods.Gaussian(1, ["learned"]))
    check_likelihood(likelihoods.ContinuousBernoulli(1), support=(0, 1), params_range=(-8, 8))
    check_likelihood(likelihoods.ContinuousBernoulli(1), support=(0, 1), params_range=(-0.6, 0.6))
    check_likelihood(likelihoods.Laplace(1, [0.3]))
    check_likelihood(likelihoods.Laplace(1, ["learned"]))
    check_likelihood(likelihoods.DiscretizedLogistic(1, ["learned"], [0, 1]), levels=LEVELS)
    check_likelihood(likelihoods.DiscretizedLogistic(1, [0.02], [-1, 1]), levels=[2 * x - 1 for x in LEVELS])


def test_likelihoods_of_one_model_keep_it() -> None:
    check_likelihood(StudentT(df=9.0))
    check_likelihood(TwoPerPixel(), params_range=(-1, 1))


@pytest.mark.parametrize(
    ("likelihood", "sentence"),
    [
        (SquareError(), "the probabilities add up to 1.77245"),
        (SumOfAll(), "log_prob returned \\[\\] for 5 images"),
        (WrongMean(9.0), "mean differs from that of the probabilities by 0.1"),
        (WrongSamples(9.0), "samples have a mean"),
    ],
)
def test_a_wrong_likelihood_is_found(likelihood: nn.Module, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_likelihood(likelihood)


def test_networks_are_checked() -> None:
    check_architecture(lambda: Encoder(SHAPE, dropout=0.3), lambda: Decoder(SHAPE, 2), SHAPE, 2)
    check_architecture(lambda: Branching(SHAPE), lambda: Decoder(SHAPE, 2), SHAPE, 2, shares_packs=False)
    with pytest.raises(AssertionError, match="cannot be computed at once"):
        check_architecture(lambda: Branching(SHAPE), lambda: Decoder(SHAPE, 2), SHAPE, 2)
    with pytest.raises(AssertionError, match="must return features"):
        check_architecture(lambda: NotFlat(SHAPE), lambda: Decoder(SHAPE, 2), SHAPE, 2)
    with pytest.raises(AssertionError, match="must return 64 numbers per image"):
        check_architecture(lambda: Encoder(SHAPE), lambda: TooFew(SHAPE, 2), SHAPE, 2)


class Squares:
    """20 images, of which `change(i, image)` may change one."""

    def __init__(self, change=lambda i, image: image) -> None:
        self.change = change

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int):
        return self.change(i, torch.full((1, 4, 4), i / 40)), i % 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i, image: image + torch.rand(()) / 3, "item 0 has other pixels when it is read again"),
        (lambda i, image: image[:, :3] if i == 7 else image, "item 7 is float32 of \\[1, 3, 4\\]"),
        (lambda i, image: image * 9, "floats from 0 to .*; must be within"),
        (lambda i, image: image / 0, "NaN or infinity"),
        (lambda i, image: 1 // (i - 3), "item 3 of 20 cannot be read: ZeroDivisionError|item 0 is int"),
    ],
)
def test_a_data_set_that_breaks_the_contract_is_named(change, said: str) -> None:
    check_dataset(Squares())
    with pytest.raises(AssertionError, match=said):
        check_dataset(Squares(change))


def test_a_dataset_of_splits_is_checked() -> None:
    images = {split: torch.zeros(3, 1, 4, 4, dtype=torch.uint8) for split in ("train", "val", "test")}
    check_dataset(Dataset("zeros", images, None, fingerprint(images, None)))
    with pytest.raises(AssertionError, match=r"test: pixels are torch\.int64"):
        check_dataset(Dataset("zeros", images | {"test": images["test"].long()}, None, "f"))
    with pytest.raises(AssertionError, match="val: has no images"):
        check_dataset(Dataset("zeros", {"train": images["train"]}, None, "f"))
