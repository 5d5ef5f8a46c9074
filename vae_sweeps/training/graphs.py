"""Training steps as CUDA graphs: all operations of a step are started by a single call.

A step consists of about a hundred operations, each of which, in a small network, a GPU ends sooner than Python starts
the next. A graph is captured once and replayed for each step, with the same addresses and the same arguments. What
changes from step to step is therefore in the memory of the device: the number of the step, the order of the images, the
noise of many steps, and the learning rates. The sums of each step are written into one tensor, which is read when a row
is due.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from vae_sweeps.data.dataset import Dataset
from vae_sweeps.system import distributed
from vae_sweeps.system.logs import first_line
from vae_sweeps.training.optimisers import StackedOptimiser, takes_rates_on_device
from vae_sweeps.training.pack import Pack
from vae_sweeps.training.schedule import Schedule
from vae_sweeps.training.steps import Steps

log = logging.getLogger(__name__)

# Takes a function without arguments and returns one that repeats the operations that the first has started.
Capture = Callable[[Callable[[], None]], Callable[[], None]]

# Steps before a capture, in which the libraries choose kernels and take memory.
_NUM_WARM_UP = 3


def new_steps(pack: Pack, dataset: Dataset, schedule: Schedule, graphs: str) -> Steps:
    """The steps of a pack, as CUDA graphs where `graphs` is auto and they can be captured."""
    if graphs == "off" or pack.device.type != "cuda":
        return Steps(pack, dataset, schedule)
    if reason := why_not(pack):
        log.info("steps are not captured as a CUDA graph: %s", reason)
        return Steps(pack, dataset, schedule)
    return GraphedSteps(pack, dataset, schedule, partial(captured_by_cuda, pack.device))


def why_not(pack: Pack) -> str:
    """Why the steps of a pack cannot be captured, "" if they can."""
    first, parameter = pack.points[0], next(pack.vae.parameters())
    if pack.has_own_parts:
        return "networks or likelihoods of your own may draw random numbers"
    if first.objective.custom:
        return "an objective of your own is given the number of the step"
    if distributed.num_ranks() > 1:
        return "several processes train together"
    if not isinstance(pack.optimiser, StackedOptimiser) or not takes_rates_on_device(first.optim, parameter):
        return "the optimiser reads its learning rates on the CPU; adam, adamw and sgd in single precision do not"
    return ""


class GraphedSteps(Steps):
    """Steps that are captured, and then replayed.

    The first steps of a pack, and a smaller last batch of an epoch, are taken operation by operation. Each graph is
    checked against such a step when it is captured: if their numbers differ in any bit, it is not used.
    """

    def __init__(self, pack: Pack, dataset: Dataset, schedule: Schedule, capture: Capture) -> None:
        super().__init__(pack, dataset, schedule)
        assert isinstance(pack.optimiser, StackedOptimiser)
        self.optimiser, self._capture = pack.optimiser, capture
        # The number of the step that `_compute` takes next: on the device, where it is raised, and on the CPU.
        self._number, self._known_number = torch.zeros(1, dtype=torch.int64, device=pack.device), 0
        shape = (schedule.steps_per_epoch, 3, len(pack.points))  # a row is due at least once in an epoch
        self._trace = torch.zeros(shape, device=pack.device, dtype=pack.dtype)
        self._x: Tensor | None = None  # the batch, if it has to be copied to the device
        self._replay: Callable[[], None] | None = None
        self._num_warm_up, self._may_capture = _NUM_WARM_UP, True

    @property
    def is_captured(self) -> bool:
        """Whether steps are replayed now."""
        return self._replay is not None

    def __call__(self, step: int) -> None:
        if self.optimiser.prepare(self.rates(step)):
            self._replay, self._num_warm_up = None, _NUM_WARM_UP  # other models are updated together now
        if self.schedule.batch_size(step) < self.batch_size:
            self.pack.trace.append(self.gradients(step))
            self.pack.clip_gradients()
            self.optimiser.update()
            return
        self._provide(step)
        if self._replay is None and self._num_warm_up == 0 and self._may_capture:
            self._replay = self._checked()
            self._may_capture = self.is_captured
        if self._replay is not None:
            self._replay()
        else:
            self._num_warm_up = max(0, self._num_warm_up - 1)
            with beside(self.pack.device):
                self._compute()
        self.pack.trace.append(self._trace[step % len(self._trace)])

    def _provide(self, step: int) -> None:
        """Put into the device's memory what step `step` reads."""
        self.pack.begin_step(step, self.batch_size)
        if step != self._known_number:
            self._number.fill_(step)
        self._known_number = step + 1
        self.noise.draw_for(step)
        if self.batches.are_on_device:
            self.batches.begin_epoch(step)
        elif self._x is None:
            self._x = self.batches(step).clone()
        else:
            self._x.copy_(self.batches(step))

    def _compute(self) -> None:
        """The operations of a step with a whole batch."""
        x = self.batches.of_number(self._number) if self._x is None else self._x
        sums = self.gradients_of(x, self.noise.of_number(self._number), self._number, self.batch_size)
        self.pack.clip_gradients()
        self.optimiser.update()
        self._trace.index_copy_(0, self._number.remainder(len(self._trace)), sums.unsqueeze(0))
        self._number.add_(1)

    def _checked(self) -> Callable[[], None] | None:
        """Capture a graph; None if that fails, or if its numbers are not those of the operations themselves."""
        state = [*self.pack.vae.state_dict().values(), *self.optimiser.state(), self._trace, self._number]
        before = [tensor.to("cpu", copy=True) for tensor in state]
        try:
            replay = self._capture(self._compute)
            self._compute()
            expected = [tensor.clone() for tensor in state]
            _copy(before, state)
            replay()
            if all(map(_is_same, state, expected)):
                return replay
            reason = "its numbers differ from those of the operations themselves"
        except RuntimeError as error:  # also if memory is short, since a graph keeps memory of its own
            reason = first_line(error)
        finally:
            _copy(before, state)
            self.pack.vae.zero_grad()  # a graph has gradients of its own
        log.warning("graphs=auto: a step could not be captured (%s); going on without", reason)
        return None


def _copy(values: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _is_same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a, b) or (a.is_floating_point() and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))


def captured_by_cuda(device: torch.device, compute: Callable[[], None]) -> Callable[[], None]:
    """Capture what `compute` starts on a GPU, without running it; the function returned runs it."""
    graph = torch.cuda.CUDAGraph()
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    try:
        # Another thread may take pinned memory for batches meanwhile.
        with torch.cuda.device(device), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            compute()
    finally:
        torch.cuda.set_stream(current)  # after an error PyTorch stays on the other one
    return graph.replay


@contextlib.contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """Compute on another stream in this block, as PyTorch's guide on CUDA graphs asks for steps before a capture."""
    if device.type != "cuda":
        yield
        return
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)
