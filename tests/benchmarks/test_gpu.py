"""The benchmark of a GPU, on a CPU: what its file has, and what ends a run or a contestant early."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import processes
from benchmarks.cases import CASES, Case
from benchmarks.gpu import evaluation, plan, scripts, tables
from benchmarks.gpu.__main__ import measure, show
from benchmarks.gpu.plan import Item
from benchmarks.gpu.profiling import NUM_ROWS, covered
from benchmarks.gpu.results import Settings, slug
from benchmarks.peers.serving import is_out_of_memory, seconds_per_step

TINY = Case("tiny", ("arch.hidden=[8]", "latent=2", "batch_size=50"), num_images=100)
SETTINGS = Settings("cpu", seconds=0.01, turns=2, budget_s=300)
ITEMS = [
    Item("training", "tiny", (1, 2), "fp32", ("pack", "bare", "tight")),
    Item("training", "tiny", (1,), "bf16", ("pack",)),
    Item("training", "tiny", (1,), "tf32"),
    Item("convolutions", "tiny", (2,)),
    Item("first_step", "tiny", (1,)),
    Item("profile", "tiny", (2,)),
    Item("reading", "tiny"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a short run."""
    to = tmp_path_factory.mktemp("gpu") / "results" / "cpu.json"
    measure(ITEMS, [TINY], SETTINGS, to)
    return to


@pytest.fixture(scope="module")
def content(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


@pytest.mark.slow
def test_all_that_was_asked_has_a_row(content) -> None:
    assert not content["ended"]
    assert [entry["what"] for entry in content["left_out"]] == [str(ITEMS[2])]
    assert "NVIDIA" in content["left_out"][0]["why"]
    keys = [(row["precision"], row["name"], row["k"]) for row in content["training"]]
    fp32 = [("pack", 1), ("bare", 1), ("tight", 1), ("pack", 2), ("bare", 2)]
    assert keys == [*(("fp32", *key) for key in fp32), ("bf16", "pack", 1)]
    assert {"card", "driver", "torch", "cuda", "cudnn", "jax", "date"} <= content["machine"].keys()


@pytest.mark.slow
def test_a_row_has_the_figures_of_each_turn(content) -> None:
    for row in content["training"]:
        assert len(row["ms"]) == SETTINGS.turns
        # K models read the same batch: ms is that of a step and a point, and images are those of all points.
        assert row["images_per_s"] == pytest.approx([1e3 * row["batch_size"] / ms for ms in row["ms"]])
        assert row["peak_bytes"] is None
    assert len({row["num_params"] for row in content["training"]}) == 1


@pytest.mark.slow
def test_programs_learn_the_same_network(content) -> None:
    elbos = [row["elbo"] for row in content["training"] if row["elbo"] is not None]
    assert len(elbos) == 3  # the pack in two precisions, and the tight loop
    assert elbos == pytest.approx([elbos[0]] * len(elbos), rel=0.1)  # with other weights and batches


@pytest.mark.slow
def test_the_scripts_find_what_they_were_asked(content) -> None:
    (first,), (profile,) = content["first_step"], content["profile"]
    assert first["from_process_start_s"] > first["from_pack_s"][0] > 0
    assert (profile["case"], profile["k"]) == ("tiny", 2)
    assert 0 < len(profile["operations"]) <= NUM_ROWS
    assert sum(row["share"] for row in profile["operations"]) <= 1.001
    assert [row["what"].split()[0] for row in content["reading"]] == ["decode,", "encode,", "batches", "batches"]


@pytest.mark.slow
def test_the_tables_have_the_rows(file: Path, content, capsys) -> None:
    show(file)
    assert "pack" in capsys.readouterr().out
    texts = tables.rendered([content])
    assert texts.keys() == tables.rendered([]).keys()
    assert texts["gpu-training"].count("\n| **pack** |") == 3
    assert {name: text for name, text in tables.rendered([]).items() if text} == {"gpu-machine": tables.NONE_YET}


@pytest.mark.slow
def test_an_evaluation_times_its_parts() -> None:
    light = ["evaluation/features=random", "evaluation.num_images=100", "evaluation.iwae_samples=2"]
    asked = {"turns": 1, "overrides": [*light, "evaluation.neighbours=10"]}
    with scripts.specified(TINY, "cpu", steps_per_epoch=2) as case:
        found = evaluation.measure(asked | {"case": case})
    assert [len(row["seconds"]) for row in found] == [1] * 4


def test_without_time_everything_is_listed_as_left_out(tmp_path: Path) -> None:
    found = measure(ITEMS[:2], [TINY], Settings("cpu", budget_s=0), tmp_path / "results.json")
    assert found.content["left_out"] == [{"what": str(item), "why": "no time was left"} for item in ITEMS[:2]]


def test_an_interrupted_run_lists_what_it_did_not_reach(tmp_path: Path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.gpu.steps.measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(ITEMS[:2], [TINY], SETTINGS, tmp_path / "results.json")
    left = json.loads((tmp_path / "results.json").read_text())["left_out"]
    assert str(ITEMS[1]) in [entry["what"] for entry in left]


@pytest.mark.slow
def test_lack_of_memory_ends_the_doubling(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(processes.MODULES, "bare", ("tests.benchmarks.greedy", False))
    items = [Item("training", "tiny", (1, 4, 8), names=("bare",)), Item("training", "tiny", (2, 16), names=("bare",))]
    content = measure(items, [TINY], SETTINGS, tmp_path / "results.json").content
    assert [row["k"] for row in content["training"]] == [1, 2]
    (end,) = content["ended"]
    assert end["k"] == 4
    assert end["why"].startswith("out of memory: ")
    assert ["K = 8" in entry["what"] or "K = 16" in entry["what"] for entry in content["left_out"]] == [True, True]


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes."), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_errors_of_memory_are_recognised(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


def test_a_turn_has_about_the_seconds_that_were_asked() -> None:
    asked: list[int] = []

    def run(num_steps: int) -> float:
        asked.append(num_steps)
        return 0.001

    assert seconds_per_step(run, 1.0) == 0.001
    assert asked == [1, 10, 100, 1000]


def test_the_plan_has_each_case_kind_and_size() -> None:
    items = plan.plan()
    assert {item.kind for item in items} == set(plan.KINDS)
    for precision in ("fp32", "tf32", "bf16"):
        for case in CASES:
            ks = {k for item in items if (item.case, item.precision) == (case.name, precision) for k in item.ks}
            assert {2**i for i in range(10)} <= ks
    assert len({str(item) for item in items}) == len(items)


def test_overlapping_kernels_count_once() -> None:
    assert covered([(5, 6), (0, 2), (1, 3)]) == 4


def test_the_name_of_a_card_becomes_a_file() -> None:
    assert slug("NVIDIA H200") == "nvidia-h200"
