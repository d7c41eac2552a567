"""The engine of a cell: it computes the gradients of all replicates.

A replicate is one row of q. The objective builds q once, and ``rows`` makes a copy of q for every replicate, with leaf
tensors as parameters. One backward pass gives the gradients of all rows, which are pulled back to theta together. Rows
come in draws, the unit of seeding; a draw is cut into blocks, the unit of the statistics.
"""

import functools
import io
import os
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.measurement.draws import draws, noise_subject, slices
from bench.measurement.heap import keep_memory
from bench.measurement.look_up import LookUp, look_up_of
from bench.measurement.pull_back import PullBack
from bench.measurement.pulse import beat
from bench.measurement.source import Source, Vector
from bench.objectives import Objective, Problem
from bench.planning.cells import Cell
from bench.planning.selectors import label
from bench.planning.settings import SMALLEST_DRAW, Settings
from bench.records.lines import Lost
from bench.records.seeds import noise_stream, numbered_seed
from estimators import Estimator, Integrand, InvalidLoss, State, parameters, rows

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Engine(Source):
    """A cell prepared for measurement: the engine computes the gradients of any draw of the cell.

    A cell is an estimator on an objective; a draw is a batch of its replicates. The gradients of a draw depend on cell,
    settings and draw number only, so every process can compute them.

    Args:
        cell: the estimator and the objective.
        settings: how the cell is measured, with dtype and device.
        state: a learned state of the estimator, as the bytes that ``state_bytes`` returns; None for a fresh state.
        truncate_at: the cut for the truncated variance: squared norms of centred gradients above the cut count as the
            cut. None to compute no truncated variance.
        problem: the problem (theta, q and f) to use; None for the problem that the objective builds.
        looks_up: whether gradients may come from a table of scores, if there is one, instead of a call of the
            estimator.
    """

    def __init__(
        self,
        cell: Cell,
        settings: Settings,
        state: bytes | None = None,
        truncate_at: float | None = None,
        problem: Problem | None = None,
        looks_up: bool = True,
    ) -> None:
        settings.check_device()
        self.cell, self.settings, self._looks_up = cell, settings, looks_up
        device = torch.device(settings.device)
        if device.type == "cpu":
            keep_memory()
        _check_room(cell, device, cell.objective.row_elements, "One sample of the objective")
        self.problem = problem or cell.objective.build(DTYPES[settings.dtype], device)
        self.q: Distribution = self.problem.q(self.problem.theta)
        groups = {name: t.numel() for name, t in self.problem.theta.items()}
        super().__init__(groups, draws(cell, settings.replicates, settings.device), device, truncate_at)
        _check_room(cell, device, SMALLEST_DRAW * self.size, f"{SMALLEST_DRAW} gradients")
        self.elements = cell.estimator.points(self.q) * cell.objective.row_elements
        self.pull_back = PullBack(self.q, self.problem.theta)
        self._streams: dict[str, int] = {}
        self.state: State | None = None
        if cell.estimator.needs_state:
            self.state = cell.estimator.init(self.q, self.generator("init", 0))
            if state is not None and self.state is not None:
                self.state.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
                self.freeze()

    def generator(self, stage: str, draw: int) -> Generator:
        """Return the random generator of a draw, a batch of replicates.

        The seed follows from four things: the root seed, the ``stage`` (a word such as "measure" or "pilot"), the
        number ``draw``, and the owner of the noise. The root seed is the settings' ``seed``; for the stages "init" and
        "adapt", it is ``adapt_seed`` if this is given. The owner is the objective if all its estimators share noise. If
        they do not, the owner is the cell, an estimator on an objective.
        """
        if stage not in self._streams:
            root, learned = self.settings.seed, self.settings.adapt_seed
            if stage in ("init", "adapt") and learned is not None:
                root = learned
            subject = noise_subject(self.cell, common=self.settings.common_noise)
            self._streams[stage] = noise_stream(root, stage, subject)
        return Generator(self.device).manual_seed(numbered_seed(self._streams[stage], draw))

    def freeze(self) -> None:
        """Stop the estimator's state (what it learned) from learning.

        Calls of the estimator then build no autograd graph for the state.
        """
        if self.state is not None:
            self.state.requires_grad_(False)

    def state_bytes(self) -> bytes | None:
        """Return the estimator's state as bytes that another process can load; None if the estimator has no state.

        The state is what the estimator has learned.
        """
        if self.state is None:
            return None
        buffer = io.BytesIO()
        torch.save(self.state.state_dict(), buffer)
        return buffer.getvalue()

    def draw_gradients(self, draw: int, stage: str = "measure") -> Tensor:
        """Return the gradients of a draw (batch), one row per replicate, ``[rows, size of theta]``.

        The ``stage``, such as "measure" or "pilot", seeds the noise.
        """
        return torch.cat(self.parts(draw, stage), 1)

    def parts(self, draw: int, stage: str = "measure") -> list[Tensor]:
        """Return the gradients of a draw (batch) for every tensor of theta, each ``[rows, size of the tensor]``.

        A row is one replicate. The ``stage``, such as "measure" or "pilot", seeds the noise.
        """
        return self.pull_back(self.own_gradients_in_slices(self.sizes[draw], self.generator(stage, draw)))

    def gradients(self, count: int, generator: Generator) -> Tensor:
        """Return the gradients of ``count`` independent calls of the estimator at theta, ``[count, size of theta]``."""
        return torch.cat(self.pull_back(self.own_gradients_in_slices(count, generator)), 1)

    def own_gradients_in_slices(self, count: int, generator: Generator) -> list[tuple[Tensor, ...]]:
        """Return the gradients, with respect to q's parameters, of ``count`` calls of the estimator, in slices.

        The calls are independent. All slices have the same number of calls, and a slice fits into the cache. A slice is
        a tuple with a tensor ``[calls of the slice, ...]`` for each parameter of q that requires gradients. q's
        parameters are functions of theta.
        """
        elements = self.elements if self.look_up is None else self.look_up.elements
        cut = slices(count, elements, self.settings.device)
        return [self.own_gradients(count // cut, generator) for _ in range(cut)]

    def own_gradients(self, count: int, generator: Generator) -> tuple[Tensor, ...]:
        """Return the gradients with respect to q's parameters, from ``count`` independent calls of the estimator.

        The tuple has a tensor ``[count, ...]`` for each parameter of q that requires gradients. q's parameters are
        functions of theta.
        """
        if self.look_up is not None:
            beat()
            return self.look_up(count, generator)
        r = rows(self.q, count)
        return self.own_gradients_on(r, self.problem.integrand(r), generator)

    @functools.cached_property
    def look_up(self) -> LookUp | None:
        """The table of scores from which gradients are read; None if gradients come from calls of the estimator."""
        if not self._looks_up:
            return None
        found = look_up_of(self.cell.estimator, self.q, self.problem.integrand(self.q))
        if found is not None:
            found.check(self.own_gradients_on, self.generator("look-up", 0))
        return found

    def values(self, count: int, generator: Generator) -> Tensor:
        """Return the losses that the estimator returns in ``count`` independent calls, ``[count, *batch]``.

        The losses have no autograd graph.
        """
        r = rows(self.q, count)
        return self.cell.estimator(self.problem.integrand(r), r, generator, self.state).detach()

    def own_gradients_on(self, r: Distribution, f: Integrand, generator: Generator) -> tuple[Tensor, ...]:
        """Call the estimator on r, and return the gradients with respect to r's parameters, each ``[rows, ...]``.

        r is a distribution with several copies of q, its rows: one for each replicate.

        Raises:
            InvalidLoss: the loss is not one value per batch element, or has no gradient at the parameters.
        """
        loss = checked_loss(self.cell.estimator, self.cell.estimator(f, r, generator, self.state), r)
        leaves = [t for t in parameters(r).values() if t.requires_grad]
        share = loss.shape[0] / max(1, loss.numel())  # a row's loss is the mean over q's batch
        return gradients_of(loss, leaves, share)


def _check_room(cell: Cell, device: torch.device, elements: int, what: str) -> None:
    """Check, before they are allocated, that so many ``elements`` of 4 bytes each fit into the memory of the device.

    Raises:
        Lost: they do not. The message begins with ``what``.
    """
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    room = pages if device.type == "cpu" else torch.cuda.get_device_properties(device).total_memory
    if 4 * elements > room:
        need = f"{what} would take {4 * elements / 2**30:,.0f} GiB of memory, and there are {room / 2**30:,.0f}"
        raise Lost(f"{need}. Choose a smaller {label(cell.objective).partition(':')[0]}.")


def checked_loss(estimator: Estimator, loss: Tensor, q: Distribution) -> Tensor:
    """Check that an estimator's loss can be differentiated for each replicate, and return the loss.

    ``q`` has a row (copy) for each replicate.

    Raises:
        InvalidLoss: the loss is not one value per batch element, or has no gradient at q's parameters.
    """
    if loss.shape != q.batch_shape:
        shapes = f"a loss of shape {list(loss.shape)} for a q of batch shape {list(q.batch_shape)}"
        raise InvalidLoss(f"{estimator!r} returned {shapes}: it must return one value per batch element.")
    if not loss.requires_grad:
        raise InvalidLoss(
            f"{estimator!r} returned a loss without a gradient at q's parameters. "
            "Use draw, rdraw, score or inject, which keep it."
        )
    beat()
    return loss


def gradients_of(loss: Tensor, leaves: list[Tensor], share: float = 1.0) -> tuple[Tensor, ...]:
    """Return the gradients of ``share * loss.sum()`` with respect to each of ``leaves``; zeros if there is no path.

    Autograd's engine is called directly. For a loss of few numbers, the sum and torch's checks would take longer than
    the backward pass itself. The graph of the loss is freed.
    """
    cotangent = loss.new_full((), share).expand_as(loss)
    found = _ENGINE.run_backward((loss,), (cotangent,), False, False, tuple(leaves), True, accumulate_grad=False)
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True))


_ENGINE: Any = torch.autograd.Variable._execution_engine
"""What ``torch.autograd.grad`` calls after its checks."""


def exact_gradient(objective: Objective, problem: Problem, sharp: Problem | None = None) -> tuple[float, Vector]:
    """Return the exact expectation of f and its gradient, ``[size of theta]``, at the problem's theta, in float64.

    Both are computed with ``sharp``, the objective's problem in float64 on the CPU. If ``sharp`` is None, the objective
    builds it, with its initial ``extra`` tensors. If ``extra`` was trained, ``sharp`` must be a problem with the
    trained tensors.

    Raises:
        ValueError: the objective declares ``has_exact``, but its problem has no exact value.
    """
    sharp = sharp or objective.build(torch.float64, "cpu")
    if sharp.exact is None:
        raise ValueError(f"{label(objective)} declares has_exact and builds a problem without an exact value.")
    theta = {k: t.detach().to("cpu", torch.float64).requires_grad_() for k, t in problem.theta.items()}
    value = sharp.exact(theta)
    gradients = torch.autograd.grad(value, list(theta.values()), materialize_grads=True)
    return value.item(), torch.cat([g.flatten() for g in gradients]).numpy()
