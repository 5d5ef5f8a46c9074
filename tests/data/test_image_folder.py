"""Folders of image files: decoding, splits, labels and errors."""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from tests.helpers.image_files import CONF, contents, load_folder, pixels, write
from vae_sweeps.config.keys import GROUP_SCHEMAS
from vae_sweeps.data.batches import Batches, epoch_order
from vae_sweeps.data.dataset import SPLITS, to_model
from vae_sweeps.data.decoding.image import Transform, decode

WHOLE = Transform("none", None, 3, "bilinear")
NAMES = [f"{kind}/{i}.png" for kind in ("a", "b") for i in range(10)]


@pytest.mark.parametrize("choice", ["image_folder", "celeba"])
def test_a_choice_of_conf_data_has_the_schemas_keys_and_allowed_values(choice: str) -> None:
    cfg, schema = OmegaConf.load(CONF / f"{choice}.yaml"), GROUP_SCHEMAS["data", f"{choice}_schema"]
    assert isinstance(cfg, DictConfig)
    assert cfg.pop("defaults") == [f"{choice}_schema", "_self_"]
    assert set(cfg) == {f.name for f in fields(schema)}
    merged = OmegaConf.merge(OmegaConf.structured(schema), cfg)
    assert isinstance(merged, DictConfig)
    assert all(f.metadata["check"](merged[f.name]) for f in fields(schema))


# Decoding


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_lossless_files_are_decoded_exactly(tmp_path: Path, ending: str) -> None:
    expected = pixels(0, 5, 7)
    Image.fromarray(expected).save(tmp_path / f"x.{ending}", lossless=True)
    assert np.array_equal(decode(tmp_path / f"x.{ending}", WHOLE), expected.transpose(2, 0, 1))


def test_grey_palette_and_16_bit_images_are_converted(tmp_path: Path) -> None:
    grey, path = pixels(0, channels=1), tmp_path / "x.png"
    Image.fromarray(grey).save(path)
    assert np.array_equal(decode(path, WHOLE), np.stack([grey] * 3))
    palette = Image.fromarray(grey).quantize(4)
    palette.save(path)
    assert np.array_equal(decode(path, WHOLE), np.asarray(palette.convert("RGB")).transpose(2, 0, 1))
    Image.fromarray(grey.astype(np.uint16) * 256 + 77).save(path)
    assert np.array_equal(decode(path, Transform("none", None, 1, "box")), grey[None])
    Image.fromarray(pixels(0)).save(path)
    expected = np.asarray(Image.fromarray(pixels(0)).convert("L"))[None]
    assert np.array_equal(decode(path, Transform("none", None, 1, "box")), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(pixels(0, 6, 4))
    turn = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "x.png", WHOLE), np.asarray(upright).transpose(2, 0, 1))


@pytest.mark.parametrize(("crop", "box"), [("center", (2, 0, 8, 6)), (4, (3, 1, 7, 5)), ("none", (0, 0, 10, 6))])
@pytest.mark.parametrize("size", [None, 3])
def test_the_crop_comes_before_the_resize(tmp_path: Path, crop: int | str, box: tuple, size: int | None) -> None:
    image = Image.fromarray(pixels(0, 6, 10))
    image.save(tmp_path / "x.png")
    expected = image.crop(box)
    if size is not None:
        expected = expected.resize((size, size), Image.Resampling.LANCZOS)
    found = decode(tmp_path / "x.png", Transform(crop, size, 3, "lanczos"))
    assert np.array_equal(found, np.asarray(expected).transpose(2, 0, 1))


# Files, splits, labels


def test_a_flat_folder_is_split_by_shares_and_has_no_labels(tmp_path: Path) -> None:
    root = write(tmp_path / "flat", [f"{i}.png" for i in range(20)])
    (root / ".hidden.png").write_bytes(b"")
    (root / "notes.txt").write_text("not an image")
    dataset = load_folder(root, tmp_path / "cache", size=None)
    assert [dataset.num_images(split) for split in SPLITS] == [16, 2, 2]
    assert (dataset.labels, dataset.image_shape) == (None, (3, 8, 8))
    assert set.union(*contents(dataset).values()) == {pixels(i).transpose(2, 0, 1).tobytes() for i in range(20)}


def test_classes_are_the_top_folders_whatever_their_subfolders(tmp_path: Path) -> None:
    root = write(
        tmp_path / "nested", ["b/1.png", "a/x/y/2.PNG", "a/3.jpeg", "c/4.webp", *[f"c/{i}.png" for i in range(9)]]
    )
    dataset = load_folder(root, tmp_path / "cache")
    assert dataset.labels is not None
    assert torch.cat([dataset.labels[split] for split in SPLITS]).bincount().tolist() == [2, 1, 10]
    assert dataset.image_shape == (3, 64, 64)


def test_each_image_keeps_its_label(tmp_path: Path) -> None:
    root = write(tmp_path / "classes", NAMES)
    dataset = load_folder(root, tmp_path / "cache", size=None)
    expected = {pixels(i).transpose(2, 0, 1).tobytes(): i // 10 for i in range(20)}
    assert dataset.labels is not None
    for split in SPLITS:
        for image, label in zip(dataset.images[split], dataset.labels[split], strict=True):
            assert expected[image.numpy().tobytes()] == label


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        (["train"], [16, 2, 2]),
        (["train", "test"], [18, 2, 20]),
        (["train", "val"], [18, 20, 2]),
        (["train", "val", "test"], [20, 20, 20]),
        (["train", "valid", "test"], [20, 20, 20]),
        (["train", "validation"], [18, 20, 2]),
    ],
)
def test_folders_are_the_splits_in_any_combination(tmp_path: Path, splits: list[str], sizes: list[int]) -> None:
    root = write(tmp_path / "split", [f"{split}/{name}" for split in splits for name in NAMES])
    dataset = load_folder(root, tmp_path / "cache", size=None)
    assert [dataset.num_images(split) for split in SPLITS] == sizes
    assert dataset.labels is not None
    assert len(dataset.labels["train"].unique()) == 2
    for i, name in enumerate(splits[1:], 1):
        expected = {pixels(20 * i + j).transpose(2, 0, 1).tobytes() for j in range(20)}
        assert contents(dataset)["test" if name == "test" else "val"] == expected
    assert len(set.union(*contents(dataset).values())) == 20 * len(splits)


def test_folders_that_may_be_splits_or_classes_are_refused(tmp_path: Path) -> None:
    both = write(tmp_path / "both", [f"{split}/{i}.png" for split in ("train", "val", "valid") for i in range(9)])
    with pytest.raises(ValueError, match="has the folders val and valid; must have one of them"):
        load_folder(both, tmp_path / "cache", size=None)
    no_train = write(tmp_path / "none", [f"{split}/{i}.png" for split in ("cats", "test") for i in range(9)])
    with pytest.raises(ValueError, match="has the folder test but no train"):
        load_folder(no_train, tmp_path / "cache", size=None)


def test_folders_beside_the_splits_are_left_out_with_a_warning(tmp_path: Path, caplog) -> None:
    root = write(tmp_path / "more", [f"{name}/{i}.png" for name in ("train", "extra") for i in range(9)])
    dataset = load_folder(root, tmp_path / "cache", size=None)
    assert sum(dataset.num_images(split) for split in SPLITS) == 9
    assert "left out extra, beside the splits" in caplog.text


def test_images_mostly_keep_their_split_when_others_are_added(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(40)]
    few = contents(load_folder(write(tmp_path / "few", names[:20]), tmp_path / "cache", size=None, test_share=0.5))
    many = contents(load_folder(write(tmp_path / "many", names), tmp_path / "cache", size=None, test_share=0.5))
    assert len(few["test"] & many["test"]) >= 5


def test_the_fingerprint_depends_on_pixels_splits_and_labels_but_not_on_locations(tmp_path: Path) -> None:
    one = load_folder(write(tmp_path / "one", NAMES), tmp_path / "cache", size=None)
    (tmp_path / "else").mkdir()
    moved = load_folder(write(tmp_path / "else" / "two", NAMES), tmp_path / "else", size=None, seed=7, resident=True)
    assert moved.fingerprint == one.fingerprint
    assert load_folder(tmp_path / "one", tmp_path / "cache", size=None, test_share=0.2).fingerprint != one.fingerprint
    write(tmp_path / "one", NAMES[:1], channels=1)
    changed = load_folder(tmp_path / "one", tmp_path / "cache", size=None)
    assert changed.fingerprint != one.fingerprint
    unlabelled = load_folder(write(tmp_path / "three", [f"x/{name}" for name in NAMES]), tmp_path / "cache", size=None)
    assert unlabelled.labels is None
    assert unlabelled.fingerprint != one.fingerprint


def test_batches_of_mapped_images_equal_those_of_resident_ones(tmp_path: Path) -> None:
    mapped = load_folder(write(tmp_path / "x", NAMES), tmp_path / "cache", size=None).to(torch.device("cpu"))
    resident = load_folder(tmp_path / "x", tmp_path / "cache", size=None, resident=True).to(torch.device("cpu"))
    assert (mapped.is_mapped, resident.is_mapped) == (True, False)
    expected, found = Batches(resident, 5, torch.float32), Batches(mapped, 5, torch.float32)
    for step in (0, 1, 2, 3, 4, 11, 3, 2, 8, 9):
        assert torch.equal(found(step), expected(step))
    train = to_model(resident, resident.images["train"], torch.float32)
    assert torch.equal(expected(1), train[epoch_order(16, 0, 0)[5:10]])


# Errors


def test_a_folder_that_does_not_exist_or_has_no_images(refused, tmp_path: Path) -> None:
    root = tmp_path / "images"
    command = ["data=image_folder", f"data.root={root}"]
    line = f"data.root={root}: "
    assert refused(*command) == f"{line}does not exist; must be the folder of the images"
    root.mkdir()
    assert refused(*command).startswith(f"{line}is empty; must have files named .jpg")
    (root / "notes.txt").write_text("x")
    assert refused(*command).startswith(f"{line}none of its 1 files is an image; must have files named .jpg")
    assert refused("data=image_folder") == "data.root=null: must be the folder of the images"


def test_a_damaged_file_is_named(refused, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [f"{i}.jpg" for i in range(10)], height=64, width=64)
    whole = (root / "3.jpg").read_bytes()
    (root / "3.jpg").write_bytes(whole[: len(whole) // 2])
    line = refused("data=image_folder", f"data.root={root}")
    assert line.startswith(f"{root}/3.jpg: cannot be used: image file is truncated")
    assert line.endswith("; replace or remove such files, or skip them with data.on_bad_file=skip")
    (root / "3.jpg").write_bytes(whole)
    (root / "7.jpg").write_text("a text")
    line = refused("data=image_folder", f"data.root={root}")
    assert line.startswith(f"{root}/7.jpg: cannot be used: not an image, or damaged at its beginning; replace")


def test_a_folder_of_only_damaged_files(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.png").write_text("a text")
    with pytest.raises(ValueError, match=r"png: cannot be used: .* \(and 4 more files\); no file can be used"):
        load_folder(tmp_path, tmp_path / "cache", on_bad_file="skip")


def test_images_of_several_sizes_need_a_size_and_a_crop(refused, tmp_path: Path) -> None:
    root = write(tmp_path / "images", ["a.png", "b.png", "c.png"])
    write(root, ["d.png"], width=9)
    line = refused("data=image_folder", f"data.root={root}", "data.crop=none", "data.size=null")
    assert line.startswith(f"data.root={root}: images of several sizes: ")
    assert {"9x8", "8x8"} <= set(line.replace(";", " ").replace(",", " ").split())
    assert "set data.size=N, with data.crop=center" in line


def test_a_crop_larger_than_an_image(refused, tmp_path: Path) -> None:
    root = write(tmp_path / "images", ["a.png", "b.png", "c.png"])
    line = refused("data=image_folder", f"data.root={root}", "data.crop=9")
    assert "cannot be used: it has 8x8 pixels, fewer than data.crop=9; set a smaller data.crop or center" in line


def test_shares_that_leave_no_training_images(tmp_path: Path) -> None:
    root = write(tmp_path / "images", ["a.png", "b.png", "c.png"])
    with pytest.raises(ValueError, match=r"data\.test_share=0\.99: leaves none of 3 images for training"):
        load_folder(root, tmp_path / "cache", test_share=0.99)


@pytest.mark.parametrize(
    ("argument", "allowed"),
    [
        ("crop=0", "center, none, or a whole number >= 1 (the side of a centred square)"),
        ("crop=left", "center, none, or a whole number >= 1 (the side of a centred square)"),
        ("size=0", "a whole number >= 1, or null"),
        ("channels=2", "1 (grey) or 3 (colour)"),
        ("resample=cubic", "one of nearest, box, bilinear, bicubic, lanczos"),
        ("val_share=1", "a number between 0 and 1"),
        ("resident=maybe", "auto, true or false"),
        ("on_bad_file=ignore", "one of error, skip"),
    ],
)
def test_a_bad_value_is_reported_with_the_allowed_ones(refused, argument: str, allowed: str) -> None:
    assert refused("data=image_folder", f"data.{argument}") == f"data.{argument}: must be {allowed}"


# Files that are not what they are named


def _bomb(path: Path) -> None:
    """A small PNG file that declares 60,000 x 60,000 pixels."""
    Image.fromarray(pixels(0)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">2I", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


NOT_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bomb": (_bomb, r"Image size \(3600000000 pixels\) exceeds limit of 178956970 pixels"),
    "another format": (lambda path: Image.fromarray(pixels(0)).save(path, "GIF"), "not an image, or damaged"),
    "PostScript": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not an image"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
    "a pipe": (os.mkfifo, "not a regular file"),
}


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_a_file_that_is_not_such_an_image_is_named(tmp_path: Path, kind: str) -> None:
    root, (make, reason) = write(tmp_path / "images", NAMES), NOT_IMAGES[kind]
    make(root / "a" / "x.png")
    with pytest.raises(ValueError, match=rf"^{root}/a/x.png: cannot be used: {reason}"):
        load_folder(root, tmp_path / "cache", size=None)
    dataset = load_folder(root, tmp_path / "cache", size=None, on_bad_file="skip")
    assert sum(dataset.num_images(split) for split in SPLITS) == len(NAMES)
