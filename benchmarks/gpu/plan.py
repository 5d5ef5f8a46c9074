"""What is measured, from the most to the least important: the time may end before the list does."""

from collections.abc import Collection
from dataclasses import dataclass

from benchmarks.cases import CASES

KINDS = ("training", "convolutions", "first_step", "profile", "evaluation", "reading", "tracker")
PROGRAMS = ("pack", "pack-no-graphs", "bare", "tight", "compiled", "jax")
OF_ONE = ("tight", "compiled")  # programs that train one model
FIRST, OTHERS = (1, 8, 64, 512), (2, 4, 16, 32, 128, 256)


@dataclass(frozen=True)
class Item:
    """Programs `names` that train `ks` models of a case, or something else that is measured of the case."""

    kind: str
    case: str = ""
    ks: tuple[int, ...] = ()
    precision: str = "fp32"
    names: tuple[str, ...] = ("pack",)

    def __str__(self) -> str:
        what = [self.kind.replace("_", " "), self.case]
        what += ["K = " + " ".join(map(str, self.ks))] if self.ks else []
        what += [self.precision, " ".join(self.names)] if self.kind == "training" else []
        return ", ".join(part for part in what if part)


def plan() -> list[Item]:
    """All items of a GPU, in order."""
    mlps = [case.name for case in CASES if "hidden" in case.point.arch]
    convs = [case.name for case in CASES if case.name not in mlps]
    small, whole = mlps[0], ("pack", "bare", "tight", "jax")

    def training(cases: Collection[str], ks: tuple[int, ...], names: tuple[str, ...], *precisions: str) -> list[Item]:
        return [Item("training", case, ks, precision, names) for precision in precisions for case in cases]

    return [
        *training(mlps, FIRST, ("pack", "bare", "tight", "compiled", "jax"), "fp32"),
        Item("first_step", small, (1, 64)),
        Item("profile", small, (1, 64)),
        *training(convs[:1], (1, 8, 64), whole, "fp32"),
        Item("evaluation", mlps[-1]),
        *training(convs[1:], (1, 8, 64), whole, "fp32"),
        *(Item("convolutions", case, (8, 32)) for case in convs),
        *training(mlps, FIRST, ("pack-no-graphs",), "fp32"),
        *(Item("reading", case) for case in (mlps[-1], *convs)),
        *training(mlps, FIRST, whole, "bf16", "tf32"),
        *(Item("profile", case, (1, 64)) for case in (mlps[-1], convs[0])),
        *training(mlps, OTHERS, ("pack", "bare", "jax"), "fp32"),
        *training(convs, (128, 256, 512), ("pack",), "fp32"),
        *(Item("evaluation", case) for case in convs[:1]),
        *training(convs, (1, 8, 64), whole, "bf16", "tf32"),
        *training(convs, (1, 8, 64), ("pack-no-graphs",), "fp32"),
        *training(convs, (1,), ("compiled",), "fp32"),
        Item("tracker"),
        *training(mlps, (1,), ("compiled",), "bf16", "tf32"),
        *(Item("profile", case, (1, 64)) for case in convs[1:]),
        Item("first_step", convs[0], (1, 64)),
        *training(convs, (2, 4, 16, 32), ("pack", "bare", "jax"), "fp32"),
        *training(convs, (128, 256, 512), ("bare", "jax"), "fp32"),
        *training(mlps, OTHERS, ("pack", "bare", "jax"), "bf16", "tf32"),
        *training(convs, (2, 4, 16, 32, 128, 256, 512), ("pack", "bare", "jax"), "bf16", "tf32"),
    ]


def reason_to_leave_out(item: Item, device: str) -> str | None:
    """Why a device cannot do an item; None if it can."""
    if device == "cpu" and item.precision == "tf32":
        return "tf32 needs an NVIDIA GPU"
    if device == "cpu" and item.names == ("pack-no-graphs",):
        return "a CPU has no CUDA graphs"
    return None
