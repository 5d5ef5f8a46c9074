"""Embed the runs' pictures in the page, as large as the size limit of the page allows."""

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from vae_sweeps.runs.catalogue import PICTURES
from vae_sweeps.runs.pictures import Picture
from vae_sweeps.runs.run_folder import RunFolder

log = logging.getLogger(__name__)

# Maximum width in px, and WebP quality. Five pictures of MNIST take 166, 119, 65, 42 and 21 kB in base64.
_LADDER = ((800, 70), (480, 55), (320, 45), (240, 35), (160, 20))


@dataclass(frozen=True)
class Pictures:
    """A run's pictures as data URLs; `epoch` is set if it is unfinished, `left_out` names pictures that did not fit."""

    images: dict[str, str] = field(default_factory=dict)
    epoch: int | None = None
    left_out: list[str] = field(default_factory=list)


def embed(folders: Sequence[RunFolder], max_bytes: int) -> list[Pictures]:
    """Encode the pictures of all runs in at most `max_bytes`; the quality only decreases from run to run.

    An unfinished run shows its newest pictures. If not all fit at the lowest quality, the most important ones are kept.
    """
    pictures = [_files(folder) for folder in folders]
    num_drawn = sum(bool(files) for files, _ in pictures)
    allowance = max_bytes // max(num_drawn, 1)
    embedded, rung = [], 0
    for files, epoch in pictures:
        images = _encode(files, rung)
        while _size(images) > allowance and rung + 1 < len(_LADDER):
            rung += 1
            images = _encode(files, rung)
        kept = _that_fit(images, allowance)
        embedded.append(Pictures(kept, epoch, [name for name in images if name not in kept]))
    return embedded


def _files(folder: RunFolder) -> tuple[dict[str, Picture], int | None]:
    """The run's pictures by name, and their epoch if they were drawn during training."""
    for epoch, found in folder.all_pictures().items():
        if "samples" in found:
            return {name: found[name] for name in PICTURES if name in found}, epoch
    return {}, None


def _encode(files: Mapping[str, Picture], rung: int) -> dict[str, str]:
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


def _size(images: Mapping[str, str]) -> int:
    return sum(map(len, images.values()))


def _that_fit(images: Mapping[str, str], max_bytes: int) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, image in images.items():
        if _size(kept) + len(image) <= max_bytes:
            kept[name] = image
    return kept
