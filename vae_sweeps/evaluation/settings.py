"""The parts that an evaluation asks for, and those that a result lacks."""

from collections.abc import Collection, Mapping
from typing import Any

from vae_sweeps.config.launch_options import Evaluation
from vae_sweeps.evaluation import extra


def settings(how: Evaluation) -> dict[str, dict[str, Any]]:
    """The parts that `how` asks for, in order, each with all settings that its numbers depend on."""
    fit = {"max_fit_images": how.max_fit_images}
    features = {name: value for name, value in how.features.items() if name != "_partial_"}
    scores = {"features": features, "num_images": how.num_images, "mixture_components": how.mixture_components, **fit}
    asked = {
        "elbo": {"elbo_samples": how.elbo_samples},
        "likelihood": how.iwae_samples > 0 and {"iwae_samples": how.iwae_samples},
        "reconstruction": how.reconstruction and {},
        "latent_space": how.latent_space and fit,
        "fid": how.fid and scores,
        "kid": how.kid and scores,
        "neighbours": how.neighbours > 0 and {"neighbours": how.neighbours},
    }
    asked |= extra.settings(how)
    return {part: {"seed": how.seed, **keys} for part, keys in asked.items() if keys is not False}


def parts_left(result: Mapping[str, Any], how: Evaluation, explicit: Collection[str] = ()) -> list[str]:
    """Parts that `how` asks for and that `result` lacks or has with other values of the `explicit` settings.

    Other settings replace nothing: a bound of 5,000 importance samples is not replaced by one of the default 100. But
    a metric of the user's own is made again when its keys or its source have changed.
    """
    done = result.get("evaluated", {})

    def is_left(part: str, asked: Mapping[str, Any]) -> bool:
        decisive = {"keys", "source", *explicit}
        return part not in done or any(done[part].get(name) != asked[name] for name in asked if name in decisive)

    return [part for part, asked in settings(how).items() if is_left(part, asked)]
