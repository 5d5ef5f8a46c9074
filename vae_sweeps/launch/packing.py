"""Which points train together, and how many."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise

from vae_sweeps.config.identity import canonical_json, identifying_content
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.config.schema import Point
from vae_sweeps.models.size import num_activations, num_params


class Cost:
    """Arithmetic of one training step of a point as a function of its latent size, up to a factor.

    Linear in the latent size, so it is fixed by the model's number of multiplications with one latent and with two.
    """

    def __init__(self, with_one: int, with_two: int) -> None:
        self.with_one, self.per_latent = with_one, with_two - with_one

    def __call__(self, latent: int) -> float:
        return self.with_one + (latent - 1) * self.per_latent


def cost(point: Point, image_shape: tuple[int, int, int]) -> Cost:
    """How the point's arithmetic grows with its latent size."""
    one, two = (num_params(replace(point, latent=latent), image_shape) for latent in (1, 2))
    return Cost(one, two)


# Measured on two cores with `python -m benchmarks.training`: beyond some tens of models nothing more is gained.
_MAX_PACK = 32


def pack_limit(point: Point, image_shape: tuple[int, int, int], memory_bytes: float) -> int:
    """How many such points train together where the user does not say: what fits `memory_bytes`, at most 32.

    A point takes its weights four times (weights, gradients, Adam's two moments), and its activations about three
    times: as they are, their gradients, and what the kernels need on the way.
    """
    num_outputs = point.batch_size * num_activations(point, image_shape)
    bytes_per_number = 8 if point.precision == "fp64" else 4
    bytes_per_point = bytes_per_number * (4 * num_params(point, image_shape) + 3 * num_outputs)
    return max(1, int(min(_MAX_PACK, memory_bytes / bytes_per_point)))


# What a job has for its pack where neither its memory nor a GPU is asked for.
_USUAL_MEMORY_GB = 8


def memory_of(cluster: SlurmLauncher) -> float:
    """Bytes that a pack may take in a job: half of its memory; of a GPU that nobody has seen yet, any."""
    if cluster.gpus_per_node or cluster.gres:
        return float("inf")
    return (cluster.mem_gb or _USUAL_MEMORY_GB) * 1e9 / 2


# Padding latent sizes to the largest may cost this much more arithmetic than the points need, and no more.
_MAX_PADDED_COST = 1.25


def pack_key(point: Point) -> str:
    """Points with equal keys can train together: what differs between them is a number for each, not a shape.

    That is beta, the seed, the latent size (padded), a fixed sigma, and the convention of the objective.
    """
    content = identifying_content(point)
    for name in ("beta", "seed", "latent"):
        del content[name]
    sigma = content["likelihood"].get("sigma")
    if sigma is not None and not isinstance(sigma, str):
        content["likelihood"]["sigma"] = "fixed"
    content["objective"] = content["objective"]["batch"]
    # Not in the id, but a pack reads one dataset, and logs and draws all its points at once.
    shown = [point.log_every_steps, point.log_steps, point.pictures_every_epochs, list(point.pictures_at_epochs)]
    return canonical_json([content, point.data.get("root"), *shown, asdict(point.pictures)])


def group(points: Sequence[Point], costs: Sequence[Cost], limits: Sequence[int]) -> list[list[int]]:
    """Indices of `points` in packs: equal keys, near latent sizes, at most `limits[i]` with point i, as even as can be.

    Points are taken by latent size. A pack is closed where one more would make its padded cost more than
    a quarter dearer than the sum of its points' own.
    """
    by_key: dict[str, list[int]] = {}
    for i, point in enumerate(points):
        by_key.setdefault(pack_key(point), []).append(i)
    packs: list[list[int]] = []
    for members in by_key.values():
        members.sort(key=lambda i: points[i].latent)
        affordable: list[list[int]] = []
        for i in members:
            if affordable:
                candidate = [*affordable[-1], i]
                padded = len(candidate) * costs[i](points[i].latent)
                if padded <= _MAX_PADDED_COST * sum(costs[j](points[j].latent) for j in candidate):
                    affordable[-1].append(i)
                    continue
            affordable.append([i])
        for pack in affordable:
            num_packs = -(-len(pack) // min(limits[i] for i in pack))
            cuts = [len(pack) * n // num_packs for n in range(num_packs + 1)]
            packs.extend(sorted(pack[a:b]) for a, b in pairwise(cuts))
    return sorted(packs)
