"""Decode one image file, and the worker process that decodes many; imports nothing heavy."""

import contextlib
import hashlib
import json
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORIENTATION = 0x0112  # the EXIF tag
# Whatever a file is named, Pillow's other formats are not tried: for one of them it starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class Transform:
    """What is done to every image: EXIF orientation, conversion to grey or RGB, crop, resize to `size` x `size`.

    `crop` is center (a square of the shorter side), none, or the side of a centred square in pixels; `size` None keeps
    the size of the crop; `channels` is 1 (grey) or 3; `resample` is a key of `RESAMPLE`.
    """

    crop: int | str
    size: int | None
    channels: int
    resample: str


def shape_of(path: Path, transform: Transform) -> tuple[int, int, int]:
    """The shape (C, H, W) that `decode` returns for the file, from its header. Raises as `decode` does."""
    with _opened(path) as image:
        width, height = image.size
        if _orientation(image) >= 5:  # these swap width and height
            width, height = height, width
    left, top, right, bottom = _box((width, height), transform.crop)
    if transform.size is not None:
        return transform.channels, transform.size, transform.size
    return transform.channels, bottom - top, right - left


def decode(path: Path | str, transform: Transform) -> np.ndarray:
    """The file's pixels, uint8 [C,H,W]; transparency is dropped, and 16 bits become 8.

    Raises whatever Pillow raises for a damaged file, one that is not an image or one of more than 179 million pixels,
    and ValueError if the crop does not fit.
    """
    with _opened(path) as opened:
        image = opened if _orientation(opened) == 1 else ImageOps.exif_transpose(opened)
        box = _box(image.size, transform.crop)
        image = _converted(image, transform.channels)
        if box != (0, 0, *image.size):
            image = image.crop(box)
        if transform.size is not None and image.size != (transform.size, transform.size):
            image = image.resize((transform.size, transform.size), RESAMPLE[transform.resample])
        pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[Image.Image]:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")  # a pipe would be waited for
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF data and large images; what cannot be read is an error
        with Image.open(path, formats=_FORMATS) as image:
            yield image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, from 1 (upright) to 8.

    Only a PNG may hold it after the pixels. Looking for it in every format would cost a twentieth of the speed.
    """
    if image.format == "PNG" or "exif" in image.info or "xmp" in image.info:
        return image.getexif().get(_ORIENTATION, 1)
    return 1


def _box(size: tuple[int, int], crop: int | str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the crop of an image of `size` (width, height)."""
    width, height = size
    if crop == "none":
        return 0, 0, width, height
    side = min(size) if crop == "center" else int(crop)
    if side > min(size):
        raise ValueError(
            f"it has {width}x{height} pixels, fewer than data.crop={crop}; set a smaller data.crop or center"
        )
    left, top = round((width - side) / 2), round((height - side) / 2)
    return left, top, left + side, top + side


def _converted(image: Image.Image, channels: int) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's conversion would clip
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


@dataclass(frozen=True)
class Chunk:
    """Files that are decoded together: `names` in the folder `root`, into the array's rows from `start` on."""

    start: int
    names: list[str]
    root: str


@dataclass(frozen=True)
class Flaw:
    """Why a file has no row in the array: damaged, or (`is_odd_size`) intact but of another size than the others."""

    row: int
    name: str
    reason: str
    is_odd_size: bool = False


def decode_chunk(chunk: Chunk, transform: Transform, shape: tuple[int, int, int], file: int) -> tuple[list[Flaw], str]:
    """Write the chunk's rows, uint8 of `shape`, to the open file, without flushing; rows that fail are zero.

    Returns the flaws, and the sha256 of the rows in hex. Raises OSError if the file cannot be written.
    """
    rows, flaws = np.zeros((len(chunk.names), *shape), np.uint8), []
    for i, name in enumerate(chunk.names):
        try:
            pixels = decode(f"{chunk.root}/{name}", transform)
        except Exception as error:  # a damaged file can fail in any way
            flaws.append(Flaw(chunk.start + i, name, reason_of(error)))
            continue
        if pixels.shape == shape:
            rows[i] = pixels
        else:
            size = "x".join(map(str, pixels.shape[:0:-1]))
            flaws.append(Flaw(chunk.start + i, name, size, is_odd_size=True))
    data, offset = rows.reshape(-1).data, chunk.start * rows[0].nbytes
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
    return flaws, hashlib.sha256(rows.data).hexdigest()


def reason_of(error: Exception) -> str:
    """Why Pillow could not read a file, in one line that does not name the file."""
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image, or damaged at its beginning"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


def main() -> None:
    """Read chunks from stdin, one per line, and print a line for each: its flaws, or the error of writing the array.

    The first line of stdin holds the array's path and shape, and the transform. Ends at the end of stdin.
    """
    header: dict[str, Any] = json.loads(sys.stdin.readline())
    transform, shape = Transform(**header["transform"]), tuple(header["shape"])
    file = os.open(header["array"], os.O_WRONLY)
    for line in sys.stdin:
        answer: dict[str, Any]
        try:
            flaws, sha256 = decode_chunk(Chunk(**json.loads(line)), transform, shape, file)
            answer = {"flaws": [asdict(flaw) for flaw in flaws], "sha256": sha256}
        except OSError as error:
            answer = {"errno": error.errno, "strerror": error.strerror}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
