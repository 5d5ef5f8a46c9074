"""Decode image files once per machine, into one array of bytes in the cache; resumes after a kill.

During decoding, the array's folder holds `decoding.u8` and `journal.jsonl`, which has a line for each chunk of rows on
the disk.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from torch import Tensor

from vae_sweeps.data.decoding.array import Index
from vae_sweeps.data.decoding.image import Transform
from vae_sweeps.data.decoding.making import OnBadFile, Source, make_array
from vae_sweeps.data.image_cache import stored_once

log = logging.getLogger(__name__)

_VERSION = 1  # increase it when a change of the code changes the bytes


@dataclass(frozen=True)
class Decoded:
    """Decoded `images`, uint8 [n,C,H,W], mapped from the file rather than held in memory.

    `kept` is whether each of the source's files is among them; `content` is a hash of the pixels.
    """

    images: UInt8[Tensor, "n C H W"]
    kept: Bool[np.ndarray, " N"]
    content: str


def decoded(source: Source, transform: Transform, cache_folder: str | None, on_bad_file: OnBadFile) -> Decoded:
    """The source's images, from the cache if they have been decoded before.

    Raises ValueError with the path for a file that is not a complete image (`skip` leaves it out instead), for images
    of several sizes, and for a cache that cannot be written.
    """

    def is_usable(index: Index) -> bool:
        is_of_all_files = index.shape[0] + len(index.skipped) == len(source.names)
        return is_of_all_files and not (index.skipped and on_bad_file == "error")

    files = list(zip(source.names, source.stamps, strict=True))
    stored = stored_once(
        [_VERSION, asdict(transform), files],
        cache_folder,
        lambda folder: make_array(folder, source, transform, on_bad_file),
        is_usable,
    )
    kept = np.ones(len(source.names), bool)
    kept[stored.index.skipped] = False
    if stored.index.skipped:
        skipped = _and_more([source.names[row] for row in stored.index.skipped])
        log.info("%s: skipped %s: not complete images", source.root, skipped)
    return Decoded(stored.images, kept, stored.index.content)


def _and_more(names: Sequence[str]) -> str:
    shown = [name.encode(errors="backslashreplace").decode() for name in names[:3]]  # names need not be UTF-8
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
