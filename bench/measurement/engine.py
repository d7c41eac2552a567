"""A cell made ready: the row gradients of any of its draws.

A replicate is a row of q. The objective builds q once; ``rows`` makes R copies whose parameters are leaves; one
backward pass gives one gradient per row; all are pulled back to theta together. Rows come in draws, the unit of
seeding; a draw is cut into blocks, the unit of the statistics.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.measurement.draws import begins, blocks_in, draws, followed, noise_subject, runs, slices
from bench.measurement.heap import keep_memory
from bench.measurement.pull_back import PullBack
from bench.measurement.reduction.blocks import draws_partial
from bench.measurement.reduction.kernels import Workspace
from bench.measurement.reduction.origin import Origin
from bench.objectives import Objective, Problem
from bench.planning.cells import Cell
from bench.planning.selectors import label
from bench.planning.settings import Settings
from bench.records.seeds import noise_stream, numbered_seed
from bench.stats import Partial
from estimators import Estimator, Integrand, State, parameters, rows

FINGERPRINT_DRAWS, FINGERPRINT_ROWS, FINGERPRINT_NUMBERS = 8, 256, 2**17
"""Draws whose raw gradients identify a cell, and of each how many of them, and of numbers that they hold, at most."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Engine:
    """A cell made ready: it computes the gradients of any of its draws.

    The result depends on cell, settings and draw number alone, so any process may compute any draw.

    Args:
        cell: estimator and objective.
        settings: how to measure.
        state: the ``state_dict`` of a state that has finished learning; a fresh state when None.
        truncate_at: where the gate's second series of squared norms is cut off; None for no such series.
        problem: at whose theta to measure; the objective's own when None.
    """

    def __init__(
        self,
        cell: Cell,
        settings: Settings,
        state: bytes | None = None,
        truncate_at: float | None = None,
        problem: Problem | None = None,
    ) -> None:
        settings.check_device()
        self.cell, self.settings, self.truncate_at = cell, settings, truncate_at
        self.device = torch.device(settings.device)
        if self.device.type == "cpu":
            keep_memory()
        self.problem = problem or cell.objective.build(DTYPES[settings.dtype], self.device)
        self.q: Distribution = self.problem.q(self.problem.theta)
        self.groups = {name: t.numel() for name, t in self.problem.theta.items()}
        self.size = sum(self.groups.values())
        self.sizes = draws(cell, settings.replicates, settings.device)
        self.points = cell.estimator.points(self.q)
        self.pull_back = PullBack(self.q, self.problem.theta)
        self.workspace = Workspace()
        self._streams: dict[str, int] = {}
        self.state: State | None = None
        if cell.estimator.needs_state:
            self.state = cell.estimator.init(self.q, self.generator("init", 0))
            if state is not None and self.state is not None:
                self.state.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
                self.freeze()

    @property
    def blocks(self) -> int:
        """How many blocks all draws are cut into."""
        return sum(map(blocks_in, self.sizes))

    def generator(self, stage: str, draw: int) -> Generator:
        """Return the generator of a draw: seeded by root seed, stage, objective and draw number."""
        root, learned = self.settings.seed, self.settings.adapt_seed
        if stage in ("init", "adapt") and learned is not None:
            root = learned
        if stage not in self._streams:
            self._streams[stage] = noise_stream(root, stage, self.subject)
        return Generator(self.device).manual_seed(numbered_seed(self._streams[stage], draw))

    @functools.cached_property
    def subject(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Whose noise the cell uses."""
        return noise_subject(self.cell, common=self.settings.common_noise)

    def freeze(self) -> None:
        """Stop the state from learning; from now on it costs no graph."""
        if self.state is not None:
            self.state.requires_grad_(False)

    def state_bytes(self) -> bytes | None:
        """Return the state as bytes that another process can load, or None."""
        if self.state is None:
            return None
        buffer = io.BytesIO()
        torch.save(self.state.state_dict(), buffer)
        return buffer.getvalue()

    def gradients(self, draw: int, stage: str = "measure") -> Tensor:
        """Return the row gradients of a draw, ``[rows, size]``."""
        return torch.cat(self.parts(draw, stage), 1)

    def parts(self, draw: int, stage: str = "measure") -> list[Tensor]:
        """Return the row gradients of a draw at every tensor of theta, ``[rows, size of the tensor]`` each."""
        return self.pull_back(self.draw_calls(draw, stage))

    def draw_calls(self, draw: int, stage: str = "measure") -> list[tuple[Tensor, ...]]:
        """Return the gradients of a draw at q's own parameters, each ``[rows/slices, ...]``, slice by slice."""
        return self.sliced_calls(self.sizes[draw], self.generator(stage, draw))

    def batch(self, count: int, generator: Generator) -> Tensor:
        """Return the row gradients of ``count`` calls, ``[count, size]``, made in slices where they are large."""
        return torch.cat(self.pull_back(self.sliced_calls(count, generator)), 1)

    def sliced_calls(self, count: int, generator: Generator) -> list[tuple[Tensor, ...]]:
        """Return the gradients of ``count`` calls at q's own parameters, in slices where they are large."""
        cut = slices(count, self.points, self.cell.objective, self.settings.device)
        return [self.calls(count // cut, generator) for _ in range(cut)]

    def row_gradients(self, count: int, generator: Generator) -> Tensor:
        """Return the gradients of ``count`` independent calls, ``[count, size]``."""
        return torch.cat(self.pull_back([self.calls(count, generator)]), 1)

    def calls(self, count: int, generator: Generator) -> tuple[Tensor, ...]:
        """Return the gradients of ``count`` independent calls at q's own parameters, each ``[count, ...]``."""
        r = rows(self.q, count)
        return self.own_gradients(r, self.problem.integrand(r), generator)

    def values(self, count: int, generator: Generator) -> Tensor:
        """Return the losses of ``count`` independent calls, ``[count, *batch]``."""
        r = rows(self.q, count)
        return self.cell.estimator(self.problem.integrand(r), r, generator, self.state).detach()

    def own_gradients(self, r: Distribution, f: Integrand, generator: Generator) -> tuple[Tensor, ...]:
        """Call the estimator on rows and return the gradients at their own parameters, each ``[count, ...]``.

        Raises:
            ValueError: the loss is not one value per batch element, or has no gradient at q's parameters.
        """
        loss = checked_loss(self.cell.estimator, self.cell.estimator(f, r, generator, self.state), r)
        leaves = [t for t in parameters(r).values() if t.requires_grad]
        # Of the sum over rows of the mean over the batch, without making it.
        share = loss.new_full((), loss.shape[0] / max(1, loss.numel())).expand_as(loss)
        return torch.autograd.grad(loss, leaves, share, materialize_grads=True)

    @functools.cached_property
    def runs(self) -> list[range]:
        """Successive draws that are reduced together: every process makes the same."""
        return runs(self.sizes, self.size)

    @functools.cached_property
    def origin(self) -> Origin:
        """Where the gradients lie: from the first draw, in every process the same."""
        return Origin.of(self.parts(0))

    def partials(self, draws: range, centre: Tensor, exact: Tensor | None) -> Iterator[tuple[Partial, str]]:
        """Yield the sums of runs, and the digests of their draws' raw gradients where the fingerprint needs them.

        Args:
            draws: whole ``runs``.
            centre: a point near the mean gradient, ``[size]``, float64.
            exact: the exact gradient, or None.
        """
        digests: dict[int, str] = {}

        def digested(draw: int) -> list[Tensor]:
            parts = self.parts(draw)
            if draw < FINGERPRINT_DRAWS:
                digests[draw] = digest(parts)
            return parts

        before = begins(self.sizes)
        firsts = [0, *itertools.accumulate(map(blocks_in, self.sizes))]
        end = followed(self.sizes, self.size)
        for run in self.runs:
            if run.start not in draws:
                continue
            partial = draws_partial(
                digested,
                run,
                index=firsts[run.start],
                blocks=[blocks_in(self.sizes[draw]) for draw in run],
                groups=self.groups,
                centre=centre,
                exact=exact,
                replicates=sum(self.sizes),
                origin=self.origin,
                followed=end if before[run.start] < end else 0,
                workspace=self.workspace,
                truncate_at=self.truncate_at,
            )
            yield partial, "".join(digests.get(draw, "") for draw in run)


def checked_loss(estimator: Estimator, loss: Tensor, q: Distribution) -> Tensor:
    """Return the loss that an estimator returned for q.

    Raises:
        ValueError: it is not one value per batch element, or has no gradient at q's parameters.
    """
    if loss.shape != q.batch_shape:
        raise ValueError(
            f"{estimator!r} returned a loss of shape {list(loss.shape)} for a q of batch shape "
            f"{list(q.batch_shape)}: it must return one value per batch element."
        )
    if not loss.requires_grad:
        raise ValueError(
            f"{estimator!r} returned a loss without a gradient at q's parameters. "
            "Use draw, rdraw, score or inject, which keep it."
        )
    return loss


def digest(parts: list[Tensor]) -> str:
    """Return the digest of a draw's first raw gradients, tensor by tensor."""
    sha, size = hashlib.sha256(), sum(g.shape[1] for g in parts)
    rows = max(1, min(FINGERPRINT_ROWS, FINGERPRINT_NUMBERS // size))
    for g in parts:
        sha.update(g[:rows].cpu().contiguous().numpy().data)
    return sha.hexdigest()


def exact_gradient(objective: Objective, problem: Problem) -> tuple[float, NDArray[np.float64]]:
    """Return the exact value and gradient, ``[size]``, in float64 at the very point of the problem."""
    sharp = objective.build(torch.float64, "cpu")
    if sharp.exact is None:
        raise ValueError(f"{label(objective)} declares has_exact and builds a problem without an exact value.")
    theta = {k: t.detach().to("cpu", torch.float64).requires_grad_() for k, t in problem.theta.items()}
    value = sharp.exact(theta)
    gradients = torch.autograd.grad(value, list(theta.values()), materialize_grads=True)
    return value.item(), torch.cat([g.flatten() for g in gradients]).numpy()
