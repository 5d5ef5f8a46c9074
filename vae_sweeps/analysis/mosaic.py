"""A mosaic of a sweep: one image with a cell for each point."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vae_sweeps.analysis.pictures import MIN_TILE_PX

_PAPER = (255, 255, 255)
_RULE = (200, 200, 200)
_INK = (34, 34, 34)
_FAINT_INK = (110, 110, 110)
_MIN_FONT_PX = 16


def mosaic(
    cells: Mapping[tuple[int, int], Image.Image | str | None],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    row_name: str,
    column_name: str,
) -> Image.Image:
    """Place `cells[i, j]` at row_labels[i] (down) and column_labels[j] (across) in one image.

    A cell is an image, or a text for an empty box; a cell that is None or absent is labelled "not done".
    """
    num_rows, num_columns = len(row_labels), len(column_labels)
    assert all(0 <= r < num_rows and 0 <= c < num_columns for r, c in cells), "a cell without a label"
    images = [cell for cell in cells.values() if isinstance(cell, Image.Image)]
    cell_w = max((image.width for image in images), default=4 * MIN_TILE_PX)
    cell_h = max((image.height for image in images), default=4 * MIN_TILE_PX)
    # A report shows the mosaic about 900 px wide; the text is then at least 15 px, for any number of columns.
    size = max(_MIN_FONT_PX, num_columns * cell_w // 60)
    pad = size // 2

    filled: dict[tuple[int, int], Image.Image | str] = {}
    for place in np.ndindex(num_rows, num_columns):
        cell = cells.get(place) or "not done"
        filled[place] = textwrap.fill(cell, 10, break_long_words=False) if isinstance(cell, str) else cell
    text_sizes = [_text_size(cell, size) for cell in filled.values() if isinstance(cell, str)]
    cell_w = max([cell_w, *(w + 2 * pad for w, _ in text_sizes)])
    cell_h = max([cell_h, size, *(h + 2 * pad for _, h in text_sizes)])

    upright = any(_text_size(label, size)[0] > cell_w for label in column_labels)  # too wide to fit side by side
    column_tiles = [_text(label, size, _INK, upright) for label in column_labels]
    row_tiles = [_text(label, size, _INK) for label in row_labels]
    row_title, column_title = _text(row_name, size, _FAINT_INK), _text(column_name, size, _FAINT_INK)

    labels_h = max(tile.height for tile in [*column_tiles, row_title])
    left = 2 * pad + max(tile.width for tile in [*row_tiles, row_title])
    top = 3 * pad + column_title.height + labels_h
    cells_w = num_columns * (cell_w + pad) - pad
    title_left = max(pad, left + (cells_w - column_title.width) // 2)
    canvas_w = max(left + cells_w, title_left + column_title.width) + pad
    canvas = Image.new("RGB", (canvas_w, top + num_rows * (cell_h + pad)), _PAPER)

    canvas.paste(column_title, (title_left, pad))
    canvas.paste(row_title, (left - pad - row_title.width, top - pad - row_title.height))
    for c, tile in enumerate(column_tiles):
        canvas.paste(tile, (left + c * (cell_w + pad) + (cell_w - tile.width) // 2, top - pad - tile.height))
    for r, tile in enumerate(row_tiles):
        canvas.paste(tile, (left - pad - tile.width, top + r * (cell_h + pad) + (cell_h - tile.height) // 2))
    for (r, c), cell in filled.items():
        x, y = left + c * (cell_w + pad), top + r * (cell_h + pad)
        if isinstance(cell, str):
            ImageDraw.Draw(canvas).rectangle((x, y, x + cell_w - 1, y + cell_h - 1), outline=_RULE)
            cell = _text(cell, size, _FAINT_INK)
        canvas.paste(cell, (x + (cell_w - cell.width) // 2, y + (cell_h - cell.height) // 2))
    return canvas


def _text_size(text: str, size: int) -> tuple[int, int]:
    """Width and height in px of `text` at a font size of `size` px, with room for descenders."""
    font = ImageFont.load_default(size)
    lines = text.split("\n")
    return math.ceil(max(font.getlength(line) for line in lines)), math.ceil(1.3 * size) * len(lines)


def _text(text: str, size: int, ink: tuple[int, int, int], upright: bool = False) -> Image.Image:
    """Draw `text` on a new image; with `upright` it reads from bottom to top."""
    width, height = _text_size(text, size)
    sheet = Image.new("RGB", (max(width, 1), height), _PAPER)
    lines = text.split("\n")
    for i, line in enumerate(lines):
        middle = (sheet.width / 2, (i + 0.5) * height / len(lines))
        ImageDraw.Draw(sheet).text(middle, line, ink, ImageFont.load_default(size), anchor="mm")
    return sheet.transpose(Image.Transpose.ROTATE_90) if upright else sheet
