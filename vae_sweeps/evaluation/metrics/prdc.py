"""Precision, recall, density and coverage: whether samples look real, and whether they show all that is real.

Both sets of images are points in the space of the features. Each point has a ball that reaches to its k-th nearest
neighbour in its own set, and a point of the other set is compared with these balls.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from vae_sweeps.evaluation.settings import K_DENSITY_COVERAGE, K_PRECISION_RECALL

# Pairs of points whose distances are held as float64 at once.
_PAIRS_AT_ONCE = 1 << 24
# An upper bound of the rounding error of |a|^2 + |b|^2 - 2 ab in float64, relative to |a|^2 + |b|^2.
_ROUNDING = 1e-12


class Balls(NamedTuple):
    """Two balls around each point, of radii whose squares are `narrow` (k = 3) and `wide` (k = 5)."""

    centres: Float64[Tensor, "N d"]
    narrow: Float64[Tensor, " N"]
    wide: Float64[Tensor, " N"]


class PRDC(NamedTuple):
    """Precision, recall and coverage are shares; the density is at least 0 and may be above 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def balls(points: Float64[Tensor, "N d"]) -> Balls:
    """The balls around points, each up to the k-th nearest other point.

    Raises ValueError if there are too few points, or any is not finite.
    """
    if len(points) <= K_DENSITY_COVERAGE:
        raise ValueError(
            f"density and coverage need more than {K_DENSITY_COVERAGE} images a side, the number of neighbours k, "
            f"not {len(points)}"
        )
    if num_bad := int((~points.isfinite().all(1)).sum()):
        raise ValueError(f"the features of {num_bad} of {len(points)} images are not finite")
    found, start = [], 0
    for block in points.split(_rows_at_once(points)):
        squares = _squared_distances(block, points)
        squares.diagonal(start).fill_(torch.inf)  # a point is no neighbour of itself
        found.append(squares.topk(K_DENSITY_COVERAGE, largest=False).values.clamp(min=0))
        start += len(block)
    nearest = torch.cat(found)
    return Balls(points, nearest[:, K_PRECISION_RECALL - 1], nearest[:, K_DENSITY_COVERAGE - 1])


def prdc(real: Balls, fake: Balls) -> PRDC:
    """Precision and recall (Kynkäänniemi et al. 2019, eq. 2), density and coverage (Naeem et al. 2020, sec. 3.2).

    All pairs are compared, in blocks. Balls are closed, as in eq. 1 of the first paper, so a copy of a point is inside
    the point's ball even if the radius is 0. Distances that differ by less than their rounding errors count as equal.
    """
    is_precise = torch.zeros(len(fake.centres), dtype=torch.bool)
    num_recalled = num_inside = num_covered = 0
    rows = _rows_at_once(fake.centres)
    for block, narrow, wide in zip(*(tensor.split(rows) for tensor in real), strict=True):
        squares = _squared_distances(block, fake.centres, slack=_ROUNDING)
        is_precise |= (squares <= narrow[:, None]).any(0)
        num_recalled += int((squares <= fake.narrow).any(1).sum())
        is_inside = squares <= wide[:, None]
        num_inside += int(is_inside.sum())
        num_covered += int(is_inside.any(1).sum())
    num_real, num_fake = len(real.centres), len(fake.centres)
    return PRDC(
        precision=int(is_precise.sum()) / num_fake,
        recall=num_recalled / num_real,
        density=num_inside / (K_DENSITY_COVERAGE * num_fake),
        coverage=num_covered / num_real,
    )


def _rows_at_once(others: Tensor) -> int:
    return max(1, _PAIRS_AT_ONCE // len(others))


def _squared_distances(
    points: Float64[Tensor, "N d"], others: Float64[Tensor, "M d"], slack: float = 0.0
) -> Float64[Tensor, "N M"]:
    """|a|^2 + |b|^2 - 2 ab for all pairs, less `slack` times |a|^2 + |b|^2."""
    sums = torch.linalg.vector_norm(points, dim=1)[:, None].square() + torch.linalg.vector_norm(others, dim=1).square()
    return sums.mul_(1 - slack).addmm_(points, others.T, alpha=-2)
