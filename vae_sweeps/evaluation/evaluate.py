"""Evaluates a finished point in parts that can be added later: likelihood, latent space, fidelity, memorisation.

A point is evaluated alone, not in its pack: the numbers then do not depend on the pack in any digit, and on two cores
it is 1.2 to 1.3 times faster (784-100-100-10, 784-500-500-20, conv; K = 9).
"""

import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from vae_sweeps.evaluation import extra
from vae_sweeps.evaluation.model import Model
from vae_sweeps.evaluation.model_outputs import ModelOutputs
from vae_sweeps.evaluation.parts import PARTS, Drawing, Findings, elbo
from vae_sweeps.evaluation.reference import Reference
from vae_sweeps.evaluation.settings import EXTRA, settings
from vae_sweeps.system.logs import first_line

log = logging.getLogger(__name__)


def evaluate_parts(
    model: Model, reference: Reference, name: str, parts: Iterable[str]
) -> tuple[dict[str, Any], list[Drawing]]:
    """The findings of `parts` for the run `name`, which `with_findings` adds to its result, and its figures' data.

    A part that raises is logged and left out, to be tried again; the other parts are not affected.
    """
    outputs, asked = ModelOutputs(model, reference), settings(reference.how)
    total = Findings()
    evaluated: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for part in parts:
        began = time.monotonic()
        try:
            if part.startswith(EXTRA):
                found = Findings(extra.measure(model, reference.dataset, reference.how, part))
            else:
                found = PARTS[part](outputs)
        except Exception as error:
            log.warning("%s: %s not evaluated", name, part, exc_info=True)
            total.missing[part] = first_line(error)
            continue
        for column, value in found.metrics.items():
            if math.isfinite(value):
                total.metrics[column] = value
            else:
                total.missing[column] = f"came out as {value}"
        total.missing |= found.missing
        total.details |= found.details
        total.to_draw += found.to_draw
        evaluated[part] = asked[part]
        seconds[part] = round(time.monotonic() - began, 3)
    log.info("%s: evaluated %s", name, ", ".join(f"{part} {s:.1f} s" for part, s in seconds.items()))
    found = {"metrics": total.metrics, "missing": total.missing, "evaluated": evaluated, "evaluation_s": seconds}
    return found | total.details, total.to_draw


def first_result(model: Model, reference: Reference) -> dict[str, Any]:
    """The ELBO's terms, which every finished point has; if they are not finite, the point has diverged."""
    found = elbo(ModelOutputs(model, reference))
    is_whole = all(map(math.isfinite, found.metrics.values()))
    return {
        "status": "done" if is_whole else "diverged",
        "metrics": found.metrics,
        "missing": found.missing,
        "evaluated": {"elbo": settings(reference.how)["elbo"]},
    }


def with_findings(result: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """`result` with the findings of `evaluate_parts`; a column has either a value or a reason why it is missing."""
    merged = {**result, **found}
    made_again = tuple(f"{part}/" for part in found["evaluated"] if part.startswith(EXTRA))
    old = {name: result.get(name, {}) for name in ("metrics", "missing")}
    # A function of the user's may have returned other names than it does now.
    old = {name: {k: v for k, v in old[name].items() if not f"{k}/".startswith(made_again)} for name in old}
    result = {**result, **old}
    for name in ("metrics", "missing", "evaluated", "evaluation_s", "features"):
        merged[name] = {**result.get(name, {}), **found.get(name, {})}
    for name, other in (("metrics", "missing"), ("missing", "metrics")):
        merged[name] = {k: v for k, v in merged[name].items() if k in found[name] or k not in found[other]}
    # A part that failed before has now succeeded.
    merged["missing"] = {k: v for k, v in merged["missing"].items() if k not in found["evaluated"]}
    return merged
