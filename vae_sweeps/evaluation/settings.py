"""The parts that an evaluation asks for, and those that a result lacks. Does not import torch."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from vae_sweeps.config import source
from vae_sweeps.config.launch_options import Evaluation

# The parts of the user's own metrics begin with it, and so do their columns.
EXTRA = "extra/"

# The numbers of neighbours that the papers use: Kynkäänniemi et al. 2019; Naeem et al. 2020, sec. 3.3.
K_PRECISION_RECALL, K_DENSITY_COVERAGE = 3, 5


def settings(how: Evaluation) -> dict[str, dict[str, Any]]:
    """The parts that `how` asks for, in order, each with all settings that its numbers depend on."""
    fit = {"max_fit_images": how.max_fit_images}
    features = {name: value for name, value in how.features.items() if name != "_partial_"}
    scores = {"features": features, "num_images": how.num_images, "mixture_components": how.mixture_components, **fit}
    neighbours = {"k_precision_recall": K_PRECISION_RECALL, "k_density_coverage": K_DENSITY_COVERAGE}
    asked = {
        "elbo": {"elbo_samples": how.elbo_samples},
        "likelihood": how.iwae_samples > 0 and {"iwae_samples": how.iwae_samples},
        "reconstruction": how.reconstruction and {},
        "latent_space": how.latent_space and fit,
        "fid": how.fid and scores,
        "kid": how.kid and scores,
        "prdc": how.prdc and {**scores, **neighbours},
        "neighbours": how.neighbours > 0 and {"neighbours": how.neighbours},
        "factors": how.factors and {},
    }
    for name, config in (how.extra or {}).items():
        asked[f"{EXTRA}{name}"] = {**config, "source": _digest_of(str(config["_target_"]))}
    return {part: {"seed": how.seed, **keys} for part, keys in asked.items() if keys is not False}


@lru_cache
def _digest_of(target: str) -> str:
    """The digest of the source of a user's metric; a process imports a module once, so it is computed once."""
    return source.digest([target])


def parts_left(result: Mapping[str, Any], how: Evaluation, explicit: Collection[str] = ()) -> list[str]:
    """Parts that `how` asks for and that `result` lacks or has with other values of the `explicit` settings.

    Other settings replace nothing: a bound of 5,000 importance samples is not replaced by one of the default 100.
    A metric of the user's own is left as well if its source, its keys or its unit have changed.
    """
    done = result.get("evaluated", {})

    def is_left(part: str, asked: Mapping[str, Any]) -> bool:
        if part.startswith(EXTRA) and part in done:
            seed = {} if "seed" in explicit else {"seed": done[part].get("seed")}
            return done[part] != {**asked, **seed}
        return part not in done or any(done[part].get(name) != asked[name] for name in asked if name in explicit)

    return [part for part, asked in settings(how).items() if is_left(part, asked)]
