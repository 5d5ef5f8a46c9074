"""Group points into packs, which train together."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from vae_sweeps.config.identity import canonical_json, identifying_content
from vae_sweeps.config.launchers import SlurmLauncher
from vae_sweeps.config.schema import OF_EACH, Point
from vae_sweeps.models.build import has_fixed_latents, has_likelihood_of_one, has_own_networks
from vae_sweeps.models.size import bytes_per_number, num_activations, num_params
from vae_sweeps.models.trial import trial
from vae_sweeps.runs import checkpoint
from vae_sweeps.runs.run_folder import RunFolder
from vae_sweeps.system import memory
from vae_sweeps.training.own_optimiser import may_share


class Cost:
    """The arithmetic of one training step as a function of the latent size, up to a constant factor.

    The function is linear, so its values at one and at two latents determine it.
    """

    def __init__(self, with_one: int, with_two: int) -> None:
        self.with_one, self.per_latent = with_one, with_two - with_one

    def __call__(self, latent: int) -> float:
        return self.with_one + (latent - 1) * self.per_latent


def cost(point: Point, image_shape: tuple[int, int, int]) -> Cost:
    """The arithmetic of a training step of this point, for any latent size.

    Points with networks of one model of the user's own, which are not padded, have equal latent sizes in a pack.
    """
    if has_fixed_latents(point.arch):
        with_any = num_params(point, image_shape)
        return Cost(with_any, with_any)
    with_one, with_two = (num_params(replace(point, latent=latent), image_shape) for latent in (1, 2))
    return Cost(with_one, with_two)


# Measured on two cores with `python -m benchmarks.training`: beyond a few tens of models, larger packs are no faster.
_MAX_PACK = 32


def limit_of(point: Point, image_shape: tuple[int, int, int], memory_bytes: float) -> int:
    """The largest pack that the point may train in. Raises ValueError if it cannot be trained at all."""
    if trial(point, image_shape).why_alone or not may_share(point.optim):
        return 1
    return point.max_pack or pack_limit(point, image_shape, memory_bytes)


def pack_limit(point: Point, image_shape: tuple[int, int, int], memory_bytes: float) -> int:
    """The default size of a pack of such points: as many as fit in `memory_bytes`, at most 32."""
    return max(1, int(min(_MAX_PACK, memory_bytes / _bytes_of(point, image_shape))))


def is_near_limit(points: Sequence[Point], image_shape: tuple[int, int, int], device: torch.device) -> bool:
    """Whether a pack of these points is estimated to need more than half of the memory that is left on the device."""
    left = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory.room()
    return bytes_of_pack(points, image_shape) > left / 2


def bytes_of_pack(points: Sequence[Point], image_shape: tuple[int, int, int]) -> float:
    """An estimate of the memory that a pack of these points needs."""
    return sum(_bytes_of(point, image_shape) for point in points)


def _bytes_of(point: Point, image_shape: tuple[int, int, int]) -> float:
    """An estimate of the memory that a point needs in a pack.

    It is four times the memory of its weights (weights, gradients, Adam's two moments) and about three times
    that of its activations (the activations, their gradients, and temporary memory of the kernels).
    """
    num_outputs = point.batch_size * num_activations(point, image_shape)
    return bytes_per_number(point) * (4 * num_params(point, image_shape) + 3 * num_outputs)


def checkpoint_bytes(point: Point, image_shape: tuple[int, int, int]) -> int:
    """The size of a point's checkpoint: its weights and Adam's two moments."""
    return 3 * bytes_per_number(point) * num_params(point, image_shape)


# Memory assumed per job when neither memory nor a GPU is requested.
_DEFAULT_MEMORY_GB = 8


def memory_of(cluster: SlurmLauncher) -> float:
    """Bytes that a pack may use in a job: half of its memory, or no limit on a GPU, whose memory is not known yet."""
    if cluster.gpus_per_node or cluster.gres:
        return float("inf")
    return (cluster.mem_gb or _DEFAULT_MEMORY_GB) * 1e9 / 2


# The arithmetic of a padded pack may be at most this many times that of its points.
_MAX_PADDED_COST = 1.25


def pack_key(point: Point) -> str:
    """A key that is equal for points that can train together.

    Such points may differ in beta, seed, latent size (by padding), a fixed sigma, the distribution of the initial
    weights, the convention of the objective, and all numbers of the optimiser.
    """
    content = identifying_content(point)
    for name in ("beta", "seed", *([] if has_fixed_latents(point.arch) else ["latent"])):
        del content[name]
    if not has_likelihood_of_one(point.likelihood):
        for name in OF_EACH:
            if not isinstance(content["likelihood"].get(name, ""), str):
                content["likelihood"][name] = "fixed"
    if not has_own_networks(point.arch):
        content["arch"].pop("init", None)
    content["objective"] = {"batch": point.objective.batch, "custom": point.objective.custom}
    optim = content["optim"]
    custom = {"custom": optim["custom"]} if optim.get("custom") else {}
    content["optim"] = {"algorithm": point.optim.algorithm, **custom}
    # These are not in the run id, but a pack reads one dataset, and logs and draws all its points at once.
    for name in ("log_every_steps", "log_steps", "pictures_every_epochs", "pictures_at_epochs"):
        content[name] = getattr(point, name)
    content["data"]["root"] = point.data.get("root")
    return canonical_json({**content, "pictures": asdict(point.pictures)})


def keys_apart(points: Sequence[Point]) -> list[str]:
    """The keys in which points differ that cannot train together, such as `arch.hidden`."""
    values: dict[str, set[str]] = {}
    kinds = {pack_key(point) for point in points}
    for kind in kinds:
        for name, value in _flat(json.loads(kind)):
            values.setdefault(name, set()).add(json.dumps(value))
    counts = {name: len(found) for name, found in values.items()}
    present = {name: sum(name in dict(_flat(json.loads(kind))) for kind in kinds) for name in values}
    return sorted(name for name in values if counts[name] > 1 or present[name] < len(kinds))


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def group(points: Sequence[Point], costs: Sequence[Cost], limits: Sequence[int]) -> list[list[int]]:
    """Group the indices of `points` into packs of equal size, as far as possible, and of similar latent sizes.

    The points of a pack have equal keys, and a pack with point i has at most `limits[i]` points. Points are added in
    the order of their latent size. A new pack begins where one more point would make the cost of the padded pack more
    than a quarter higher than the sum of the costs of its points.
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
            # Rounded up: where packs cannot be equal, those of larger latent sizes have fewer points.
            cuts = [-(-len(pack) * n // num_packs) for n in range(num_packs + 1)]
            packs.extend(sorted(pack[a:b]) for a, b in pairwise(cuts))
    # The optimiser is called once for each run of neighbours with equal settings.
    return [sorted(pack, key=lambda i: (_settings_of(points[i]), i)) for pack in sorted(packs)]


def _settings_of(point: Point) -> str:
    return repr(point.optim)


@dataclass(frozen=True)
class Candidate:
    """A run that waits to be trained: its latent size, what a step costs, and with how many others it may train."""

    run: RunFolder
    key: str
    latent: int
    cost: Cost
    limit: int
    settings: str = ""  # of the optimiser

    @property
    def own_cost(self) -> float:
        return self.cost(self.latent)


def candidate(run: RunFolder, point: Point, image_shape: tuple[int, int, int], memory_bytes: float) -> Candidate:
    """The candidate for the point of a run, on a device where a pack may use `memory_bytes`."""
    limit = limit_of(point, image_shape, memory_bytes)
    return Candidate(run, pack_key(point), point.latent, cost(point, image_shape), limit, _settings_of(point))


def next_pack(waiting: Sequence[Candidate], share: float) -> list[RunFolder]:
    """The pack that a free worker should take of the points that wait. Its points cost about `share`, or less.

    The points that cost most go first, since a large pack that begins last keeps one worker busy when all others have
    ended. Points with checkpoints train with those that were saved at the same step, as in the pack that was
    interrupted.
    """
    if not waiting:
        return []
    by_key: dict[str, list[Candidate]] = {}
    for point in waiting:
        by_key.setdefault(point.key, []).append(point)
    largest = max(by_key.values(), key=lambda points: sum(point.own_cost for point in points))
    largest = _of_one_step(largest)
    largest.sort(key=lambda point: -point.latent)
    pack, paid = [largest[0]], largest[0].own_cost
    for point in largest[1:]:
        padded, paid = (len(pack) + 1) * pack[0].own_cost, paid + point.own_cost
        limit = min(point.limit, *(member.limit for member in pack))
        is_enough = paid - point.own_cost / 2 > share
        if len(pack) == limit or is_enough or padded > _MAX_PADDED_COST * paid:
            break
        pack.append(point)
    return [point.run for point in sorted(pack, key=lambda point: point.settings)]


def _of_one_step(points: Sequence[Candidate]) -> list[Candidate]:
    """Those points that were saved at the same step: the group with the latest step."""
    by_step: dict[int, list[Candidate]] = {}
    for point in points:
        by_step.setdefault(checkpoint.step_of(point.run), []).append(point)
    return by_step[max(by_step)]
