"""Drawn faces with known attributes, in CelebA's size and in both of its layouts.

python -m tests.helpers.drawn_faces DIR --num N [--kaggle]
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 178, 218
ATTRIBUTES = ("Blond_Hair", "Pale_Skin", "Smiling")
_SKIN = {False: (150, 100, 70), True: (240, 205, 180)}
_HAIR = {False: (50, 30, 20), True: (225, 195, 105)}


@dataclass(frozen=True)
class Face:
    """Where a face is (pixels off the centre), its background's grey, and its attributes by `ATTRIBUTES`."""

    x: int
    y: int
    grey: int
    values: tuple[bool, ...]

    def draw(self) -> Image.Image:
        """The face, RGB, 178x218."""
        blond, pale, smiling = self.values
        image = Image.new("RGB", (WIDTH, HEIGHT), (self.grey, self.grey, 255 - self.grey // 2))
        draw, x, y = ImageDraw.Draw(image), WIDTH // 2 + self.x, HEIGHT // 2 + self.y
        draw.ellipse((x - 56, y - 76, x + 56, y + 50), fill=_HAIR[blond])
        draw.ellipse((x - 44, y - 55, x + 44, y + 62), fill=_SKIN[pale])
        for side in (-1, 1):
            draw.ellipse((x + 18 * side - 7, y - 12, x + 18 * side + 7, y - 2), fill=(20, 20, 30))
        if smiling:
            draw.chord((x - 24, y + 8, x + 24, y + 46), 10, 170, fill=(250, 250, 250), outline=(160, 30, 40), width=4)
        else:
            draw.line((x - 16, y + 34, x + 16, y + 34), fill=(160, 30, 40), width=5)
        return image


def faces(num: int, seed: int = 0) -> list[Face]:
    """`num` faces drawn at random; each attribute is true of about half."""
    rng = np.random.default_rng(seed)
    places, greys, values = rng.integers(-15, 16, (num, 2)), rng.integers(60, 200, num), rng.integers(0, 2, (num, 3))
    drawn = zip(places.tolist(), greys.tolist(), values.astype(bool).tolist(), strict=True)
    return [Face(x, y, grey, tuple(bools)) for (x, y), grey, bools in drawn]


def name_of(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def split_of(index: int, num: int) -> int:
    """0 (train) of the first 80 %, 1 (val) of the next 10 %, 2 (test) of the rest: in order, as CelebA has it."""
    return 0 if index < 0.8 * num else 1 if index < 0.9 * num else 2


def write_celeba(folder: Path, num: int, *, kaggle: bool = False, seed: int = 0) -> list[Face]:
    """Write `num` faces as JPEGs with the lists of partition and attributes; returns the faces, in order of names."""
    drawn = faces(num, seed)
    images = folder / "img_align_celeba" / "img_align_celeba" if kaggle else folder / "img_align_celeba"
    images.mkdir(parents=True)
    for i, face in enumerate(drawn):
        face.draw().save(images / name_of(i), quality=90)
    values = [["1" if value else "-1" for value in face.values] for face in drawn]
    rows = [[name_of(i), *row] for i, row in enumerate(values)]
    partition = [[name_of(i), str(split_of(i, num))] for i in range(num)]
    if kaggle:
        _write(folder / "list_attr_celeba.csv", [["image_id", *ATTRIBUTES], *rows], ",")
        _write(folder / "list_eval_partition.csv", [["image_id", "partition"], *partition], ",")
    else:
        _write(folder / "list_attr_celeba.txt", [[str(num)], list(ATTRIBUTES), *rows], " ")
        _write(folder / "list_eval_partition.txt", partition, " ")
    return drawn


def _write(path: Path, rows: list[list[str]], separator: str) -> None:
    path.write_text("".join(separator.join(row) + "\n" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write drawn faces in the layout of CelebA.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--kaggle", action="store_true")
    arguments = parser.parse_args()
    write_celeba(arguments.folder, arguments.num, kaggle=arguments.kaggle)


if __name__ == "__main__":
    main()
