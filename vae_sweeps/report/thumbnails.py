"""Embed the runs' pictures in the page, as large as the size limit of the page allows."""

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from PIL import Image

from vae_sweeps.runs.catalogue import PICTURES
from vae_sweeps.runs.pictures import Picture
from vae_sweeps.runs.run_folder import RunFolder

log = logging.getLogger(__name__)

Key = TypeVar("Key", str, int)  # a picture's name, or the epoch after which it was drawn

# Maximum width in px, and WebP quality. Five pictures of MNIST take 166, 119, 65, 42 and 21 kB in base64.
_LADDER = ((800, 70), (480, 55), (320, 45), (240, 35), (160, 20))
_EARLIER = 3  # the rung of samples drawn during training
_MAX_EARLIER = 6


@dataclass(frozen=True)
class Pictures:
    """A run's pictures as data URLs; `epoch` is set if it is unfinished, `left_out` names pictures that did not fit.

    `earlier` has samples that were drawn during training, by their epoch: some of many, as far as there is room.
    """

    images: dict[str, str] = field(default_factory=dict)
    earlier: dict[int, str] = field(default_factory=dict)
    epoch: int | None = None
    left_out: list[str] = field(default_factory=list)


def embed(folders: Sequence[RunFolder], max_bytes: int) -> list[Pictures]:
    """Encode the pictures of all runs in at most `max_bytes`; the quality only decreases from run to run.

    An unfinished run shows its newest pictures. If not all fit at the lowest quality, the most important ones are kept.
    """
    pictures = [_files(folder) for folder in folders]
    num_drawn = sum(bool(files) for files, _, _ in pictures)
    allowance = max_bytes // max(num_drawn, 1)
    embedded, rung = [], 0
    for files, epoch, earlier in pictures:
        images = _encode(files, rung)
        while _size(images) > allowance and rung + 1 < len(_LADDER):
            rung += 1
            images = _encode(files, rung)
        kept = _that_fit(images, allowance)
        before = _that_fit(_encode(earlier, _EARLIER), allowance - _size(kept)) if rung <= _EARLIER else {}
        embedded.append(Pictures(kept, before, epoch, [name for name in images if name not in kept]))
    return embedded


def _files(folder: RunFolder) -> tuple[dict[str, Picture], int | None, dict[int, Picture]]:
    """The run's pictures by name, their epoch if they were drawn during training, and its samples of earlier epochs."""
    with_samples = {epoch: found for epoch, found in folder.all_pictures().items() if "samples" in found}
    if not with_samples:
        return {}, None, {}
    (newest, newest_files), *others = with_samples.items()
    earlier = {epoch: found["samples"] for epoch, found in reversed(others) if epoch is not None}
    files = {name: newest_files[name] for name in PICTURES if name in newest_files}
    return files, newest, {epoch: earlier[epoch] for epoch in _spread(list(earlier), _MAX_EARLIER)}


def _spread(epochs: Sequence[int], num: int) -> list[int]:
    """At most `num` of them, evenly spread, with the first and the last."""
    if len(epochs) <= num:
        return list(epochs)
    return [epochs[round(i * (len(epochs) - 1) / (num - 1))] for i in range(num)]


def _encode(files: Mapping[Key, Picture], rung: int) -> dict[Key, str]:
    max_width, quality = _LADDER[rung]
    images = {}
    for name, picture in files.items():
        content = io.BytesIO()
        try:
            with Image.open(io.BytesIO(picture.read())) as image:
                height = round(image.height * max_width / image.width)
                small = image if image.width <= max_width else image.resize((max_width, height), Image.Resampling.BOX)
                small.save(content, format="WEBP", quality=quality, method=2)
        except OSError as error:
            log.warning("%s: cannot be read, so the report leaves it out (%s)", picture, error)
            continue
        images[name] = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
    return images


def _size(images: Mapping[Any, str]) -> int:
    return sum(map(len, images.values()))


def _that_fit(images: Mapping[Key, str], max_bytes: int) -> dict[Key, str]:
    kept: dict[Key, str] = {}
    for name, image in images.items():
        if _size(kept) + len(image) <= max_bytes:
            kept[name] = image
    return kept
