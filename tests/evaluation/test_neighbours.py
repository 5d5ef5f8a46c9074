"""Nearest training images, against all distances taken one by one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_sweeps.evaluation.metrics import neighbours
from vae_sweeps.evaluation.metrics.neighbours import nearest


def to_pixels(images: Tensor) -> Tensor:
    return images.flatten(1).double() / 255


def brute_force(images: Tensor, others: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """All differences, squared and summed; numpy's argmin takes the first of equals."""
    x, y = images.numpy(), to_pixels(others).numpy()
    distances = np.stack([np.sqrt(np.square(x - row).sum(1)) for row in y], 1)
    return distances.argmin(1), distances.min(1)


def random_bytes(num_images: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num_images, *shape), generator=draw, dtype=torch.uint8)


def counting(sizes: list[int]) -> Callable[[Tensor], Tensor]:
    """`to_pixels` that notes the sizes of the blocks it is given."""

    def convert(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return to_pixels(images)

    return convert


@pytest.mark.parametrize(("shape", "num_blocks"), [((1, 4, 4), 1), ((3, 128, 256), 4)])
def test_nearest_agrees_with_brute_force(shape, num_blocks: int) -> None:
    others = random_bytes(40, shape, 0)
    images = to_pixels(random_bytes(5, shape, 1))
    images[3] = 0.9 * to_pixels(others)[39] + 0.1 * images[3]
    sizes: list[int] = []
    found = nearest(images, others, counting(sizes))
    which, distance = brute_force(images, others)
    assert found.which.tolist() == which.tolist()
    assert found.which[3] == 39
    assert found.distance.numpy() == pytest.approx(distance, rel=1e-12)
    assert sum(sizes) == 40
    assert len(sizes) == num_blocks
    assert all(size * images.shape[1] <= neighbours._NUMBERS_AT_ONCE for size in sizes)


def test_an_image_larger_than_a_block_is_taken_alone() -> None:
    others = random_bytes(2, (1, 2048, 2049), 0)
    assert nearest(to_pixels(others[1:]), others, to_pixels).which.tolist() == [1]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_an_equal_image_is_at_distance_exactly_0(shape) -> None:
    others = random_bytes(50, shape, 0)
    found = nearest(to_pixels(others[[7, 0, 49]]), others, to_pixels)
    assert found.which.tolist() == [7, 0, 49]
    assert found.distance.tolist() == [0, 0, 0]


@pytest.mark.parametrize("num_copies", [2, 3])
@pytest.mark.parametrize("num_others", [3, 50, 101])
def test_of_equal_images_the_first_is_found(num_others: int, num_copies: int) -> None:
    others = random_bytes(num_others, (1, 28, 28), 0)
    images = to_pixels(random_bytes(37, (1, 28, 28), 1))
    found = nearest(images, torch.cat([others] * num_copies), to_pixels)
    which, distance = brute_force(images, others)
    assert found.which.tolist() == which.tolist()
    assert found.distance.numpy() == pytest.approx(distance, rel=1e-12)


def test_of_equal_images_in_several_blocks_the_first_is_found() -> None:
    others = random_bytes(12, (3, 256, 512), 0)
    found = nearest(to_pixels(others[:3]), torch.cat([others, others]), to_pixels)
    assert found.which.tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64)])
def test_near_duplicates_are_distinguished(shape) -> None:
    """Distances of 1.2, 1 and 2 millionths, where the squares of the images themselves have size 10 to 4,000."""
    draw = torch.Generator().manual_seed(0)
    images = to_pixels(random_bytes(20, shape, 0))
    step = torch.randn(images.shape, generator=draw, dtype=torch.float64)
    step /= step.norm(dim=1, keepdim=True)
    others = torch.cat([images + 1.2e-6 * step, images - 1e-6 * step, images + 2e-6 * step])
    found = nearest(images, others, lambda x: x)
    assert found.which.tolist() == list(range(20, 40))
    assert found.distance.numpy() == pytest.approx(1e-6, rel=1e-6)
