"""Compares event files, as TensorBoard reads them, with run folders."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import DEFAULT_SIZE_GUIDANCE, EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

from vae_sweeps.runs import catalogue
from vae_sweeps.runs.run_folder import RunFolder

# Values that depend on the clock.
CLOCK = {f"{section}/{name}" for section in ("train", "trained") for name in ("time_s", "core_s", "images_per_s")}
Scalars = dict[str, list[tuple[int, float]]]


def read(logdir: Path, run: RunFolder) -> EventAccumulator:
    """All events of the run, read by TensorBoard."""
    (folder,) = logdir.glob(f"* {run.id}")
    events = EventAccumulator(str(folder), size_guidance=dict.fromkeys(DEFAULT_SIZE_GUIDANCE, 0))
    return events.Reload()


def scalars(events: EventAccumulator) -> Scalars:
    """The points (step, value) of each curve."""
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def timeless(events: EventAccumulator) -> Scalars:
    """The curves that do not depend on the clock."""
    return {tag: points for tag, points in scalars(events).items() if tag not in CLOCK}


def hparams(events: EventAccumulator) -> dict[str, Any]:
    """The values that the tab HParams shows of the run."""
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


def status(events: EventAccumulator) -> int:
    """How the run ended, as the tab HParams shows it."""
    content = events.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content
    return metadata.parse_session_end_info_plugin_data(content).status


def config(events: EventAccumulator) -> str:
    """The text of the config."""
    (event,) = events.Tensors("config")
    return event.tensor_proto.string_val[0].decode()


def assert_same(events: EventAccumulator, run: RunFolder) -> None:
    """The events are those of the folder: each number to float32, once, at its step; histograms; files of pictures."""
    rows, result = run.read_rows(), run.read_result()
    expected: Scalars = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float | int) and name not in ("step", "num_steps"):
                tag = name if "/" in name else f"train/{name}"
                expected.setdefault(tag, []).append((row["step"], float(np.float32(value))))
    if result is not None:
        for name in catalogue.in_table([*result, *result.get("metrics", {})]):
            value = catalogue.number_of(result, name)
            if value is not None:
                expected[f"trained/{name}"] = [(result["step"], float(np.float32(value)))]
    assert scalars(events) == expected
    assert_same_histograms(events, rows)
    assert {tag: len(events.Images(tag)) for tag in events.Tags()["images"]} == {
        f"pictures/{name}": sum(name in of_epoch for of_epoch in run.all_pictures().values())
        for name in catalogue.PICTURES
        if any(name in of_epoch for of_epoch in run.all_pictures().values())
    }
    for epoch, pictures in run.all_pictures().items():
        for name in pictures.keys() & set(catalogue.PICTURES):
            step = rows[-1]["step"] if epoch is None else epoch * rows[0]["step"] / rows[0]["epoch"]
            (shown,) = [e for e in events.Images(f"pictures/{name}") if math.isclose(e.step, step)]
            assert shown.encoded_image_string == pictures[name].read()
            assert Image.open(io.BytesIO(shown.encoded_image_string)).size == (shown.width, shown.height)


def assert_same_histograms(events: EventAccumulator, rows: Sequence[Mapping[str, Any]]) -> None:
    """Each row with the KL of each latent has a histogram of it, from the smallest to the largest."""
    of_rows = {row["step"]: row["val/kl_per_latent"] for row in rows if "val/kl_per_latent" in row}
    shown = {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in events.Tensors("val/kl_per_latent")}
    assert shown.keys() == of_rows.keys()
    for step, values in of_rows.items():
        assert shown[step][:, 2].sum() == len(values)
        np.testing.assert_allclose([shown[step][0, 0], shown[step][-1, 1]], [min(values), max(values)], rtol=1e-6)
