"""Which GPUs processes are given, by index, UUID or MIG instance, and which one a rank trains on."""

import pytest

from vae_sweeps.system import gpus


@pytest.mark.parametrize(
    ("variable", "num_seen", "expected"),
    [
        (None, 3, ["0", "1", "2"]),
        (None, 0, []),
        ("", 0, []),
        ("2,3", 2, ["2", "3"]),
        ("GPU-8932f937, GPU-71a2", 2, ["GPU-8932f937", "GPU-71a2"]),
        ("1,-1,0", 1, ["1"]),  # CUDA stops at -1
        # CUDA finds one MIG instance in a process, however many are listed.
        ("MIG-aaaa,MIG-bbbb,MIG-cccc", 1, ["MIG-aaaa", "MIG-bbbb", "MIG-cccc"]),
        ("MIG-GPU-8932f937/1/0", 1, ["MIG-GPU-8932f937/1/0"]),
    ],
)
def test_gpus_keep_the_names_that_they_were_given_by(variable: str | None, num_seen: int, expected: list[str]) -> None:
    assert gpus.visible(variable, num_seen) == expected


@pytest.mark.parametrize(
    ("names", "devices", "of_slots"),
    [
        (["GPU-a", "GPU-b"], 1, [["GPU-a"], ["GPU-b"], ["GPU-a"]]),
        (["MIG-a", "MIG-b", "MIG-c"], 1, [["MIG-a"], ["MIG-b"], ["MIG-c"]]),
        (["4", "5", "6", "7"], 2, [["4", "5"], ["6", "7"], ["4", "5"]]),
        ([], 2, [[], []]),
    ],
)
def test_slots_divide_the_gpus(names: list[str], devices: int, of_slots: list[list[str]]) -> None:
    assert [gpus.of_slot(names, slot, devices) for slot in range(len(of_slots))] == of_slots


@pytest.mark.parametrize(
    ("ranks_on_node", "num_seen", "expected"),
    [
        (4, 4, [0, 1, 2, 3]),
        (2, 8, [0, 1]),  # a whole node, of which two GPUs are used
        (4, 1, [0, 0, 0, 0]),  # every task sees its own one only
        (1, 1, [0]),
    ],
)
def test_a_rank_takes_its_own_gpu(ranks_on_node: int, num_seen: int, expected: list[int]) -> None:
    assert [gpus.of_rank(rank, ranks_on_node, num_seen) for rank in range(ranks_on_node)] == expected


@pytest.mark.parametrize(("ranks_on_node", "num_seen"), [(4, 2), (4, 3), (2, 0)])
def test_too_few_gpus_are_one_line(ranks_on_node: int, num_seen: int) -> None:
    for rank in range(ranks_on_node):  # also those whose number would fit: all ranks end alike
        with pytest.raises(ValueError, match=f"^task {rank} of {ranks_on_node} on this node sees {num_seen} GPUs: "):
            gpus.of_rank(rank, ranks_on_node, num_seen)
