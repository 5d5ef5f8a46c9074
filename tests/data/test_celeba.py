"""CelebA's two layouts, on drawn faces: partition, attributes, crops and errors."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.drawn_faces import ATTRIBUTES, split_of, write_celeba
from tests.helpers.image_files import load_celeba
from vae_sweeps.data.dataset import SPLITS
from vae_sweeps.runs.run_folder import RunFolder, runs_folder

NUM = 60
DATA = ["data=celeba", "data.size=16"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("celeba")
    write_celeba(folder, NUM)
    return folder


@pytest.mark.parametrize("label", [*ATTRIBUTES, None])
def test_partition_and_labels_are_those_of_the_lists(root: Path, tmp_path: Path, label: str | None) -> None:
    dataset = load_celeba(root, tmp_path, label=label, size=16)
    assert [dataset.num_images(split) for split in SPLITS] == [48, 6, 6]
    assert dataset.image_shape == (3, 16, 16)
    if label is None:
        assert dataset.labels is None
        return
    column, drawn = ATTRIBUTES.index(label), write_celeba(tmp_path / "again", NUM)
    assert dataset.labels is not None
    for number, split in enumerate(SPLITS):
        expected = [face.values[column] for i, face in enumerate(drawn) if split_of(i, NUM) == number]
        assert dataset.labels[split].tolist() == expected


def test_images_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    dataset = load_celeba(root, tmp_path, label="Blond_Hair", crop="none", size=None)
    assert dataset.image_shape == (3, 218, 178)
    drawn = write_celeba(tmp_path / "again", NUM)
    assert dataset.labels is not None
    for i in (0, 7, 47):
        face = drawn[i]
        hair = dataset.images["train"][i, :, 109 + face.y - 68, 89 + face.x].float()  # above the brow
        wanted = torch.tensor((225.0, 195, 105) if face.values[0] else (50.0, 30, 20))
        assert (hair - wanted).abs().max() < 30


def test_the_official_layout_with_or_without_folders_and_kaggles_are_equivalent(root: Path, tmp_path: Path) -> None:
    expected = load_celeba(root, tmp_path / "cache", size=16).fingerprint
    write_celeba(tmp_path / "kaggle", NUM, kaggle=True)
    assert load_celeba(tmp_path / "kaggle", tmp_path / "cache", size=16).fingerprint == expected
    apart = tmp_path / "apart"
    write_celeba(apart, NUM)
    for name, folder in (
        ("img_align_celeba", "Img"),
        ("list_eval_partition.txt", "Eval"),
        ("list_attr_celeba.txt", "Anno"),
    ):
        (apart / folder).mkdir()
        (apart / name).rename(apart / folder / name)
    assert load_celeba(apart, tmp_path / "cache", size=16).fingerprint == expected


def test_crop_and_label_are_part_of_the_fingerprint(root: Path, tmp_path: Path) -> None:
    crops = {load_celeba(root, tmp_path, size=16, crop=crop).fingerprint for crop in ("center", 148, 140, "none")}
    labels = {load_celeba(root, tmp_path, size=16, label=label).fingerprint for label in (*ATTRIBUTES, None)}
    assert (len(crops), len(labels)) == (4, 4)
    assert len(list(tmp_path.glob("images-*/images.u8"))) == 4  # another label decodes nothing


@pytest.mark.slow
def test_a_launch_trains_on_celeba(door, root: Path, tmp_path: Path) -> None:
    ended = door(*DATA, f"data.root={root}", f"data.cache={tmp_path / 'cache'}", "arch.hidden=[4]", "epochs=1",
                 "evaluation=none", f"output_dir={tmp_path / 'out'}")  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    (run,) = runs_folder(tmp_path / "out").iterdir()
    assert run.name.startswith("celeba-mlp-")
    result = RunFolder(run).read_result()
    assert result is not None
    assert result["status"] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("label", ["Smiling", "null"])
def test_the_full_evaluation_runs_on_mapped_images(door, root: Path, tmp_path: Path, label: str) -> None:
    ended = door(*DATA, f"data.root={root}", f"data.label={label}", f"data.cache={tmp_path / 'cache'}", "epochs=1",
                 "arch.hidden=[4]", "evaluation=full", "evaluation/features=random", "evaluation.fid=false",
                 "evaluation.mixture_components=2", "evaluation.neighbours=5", "data.resident=false",
                 f"output_dir={tmp_path / 'out'}")  # fmt: skip
    assert (ended.code, ended.err) == (0, "")


# Errors


def _no_images(root: Path) -> str:
    for path in (root / "img_align_celeba").iterdir():
        path.unlink()
    return f"data.root={root}: has no img_align_celeba with images; must be the unpacked CelebA"


def _no_partition(root: Path) -> str:
    (root / "list_eval_partition.txt").unlink()
    return f"data.root={root}: list_eval_partition.txt (or .csv) is missing; copy it there"


def _no_attributes(root: Path) -> str:
    (root / "list_attr_celeba.txt").unlink()
    return f"data.root={root}: list_attr_celeba.txt (or .csv) is missing; copy it there, or set data.label=null"


def _missing_images(root: Path) -> str:
    for name in ("000003.jpg", "000009.jpg"):
        (root / "img_align_celeba" / name).unlink()
    return (
        f"{root}/list_eval_partition.txt: names 2 of {NUM} images that are not in {root}/img_align_celeba: "
        "000003.jpg, 000009.jpg; unpack all images again"
    )


def _odd_partition(root: Path) -> str:
    (root / "list_eval_partition.txt").write_text("000001.jpg 3\n")
    return f"{root}/list_eval_partition.txt: line 1: must be a file's name and 0, 1 or 2 (train, val, test)"


def _no_test(root: Path) -> str:
    path = root / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(" 2\n", " 1\n"))
    return f"{path}: has no image of test; each split must have one"


def _too_many_names(root: Path) -> str:
    path = root / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace("Smiling", "Smiling Young"))
    return f"{path}: line 3: must be a file's name and 4 values of -1 or 1, one per attribute; copy it again"


def _cut(root: Path) -> str:
    path = root / "list_attr_celeba.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-7]))
    return f"{path}: has no line for 7 images, such as 000054.jpg; copy it again"


@pytest.mark.parametrize(
    "damage",
    [_no_images, _no_partition, _no_attributes, _missing_images, _odd_partition, _no_test, _too_many_names, _cut],
)
def test_an_incomplete_or_inconsistent_layout(refused, tmp_path: Path, damage: Callable[[Path], str]) -> None:
    write_celeba(tmp_path / "faces", NUM)
    expected = damage(tmp_path / "faces")
    assert refused(*DATA, f"data.root={tmp_path / 'faces'}").startswith(expected)


def test_an_unknown_attribute(refused, root: Path) -> None:
    line = refused(*DATA, f"data.root={root}", "data.label=Smilling")
    names = ", ".join(ATTRIBUTES)
    assert line == f"data.label=Smilling: no attribute of list_attr_celeba.txt; must be null or one of {names}"
