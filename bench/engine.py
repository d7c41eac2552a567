"""A cell made ready: the row gradients of any of its blocks.

A replicate is a row of q. The objective builds q once; ``rows`` makes R copies whose parameters are leaves; one
backward pass gives one gradient per row; all are pulled back to theta together. Rows come in blocks, the unit of
seeding and merging.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench import record
from bench.heap import keep_memory
from bench.moments import Workspace, block_partials, together
from bench.objectives import Objective, Problem
from bench.plan import Cell, blocks, noise_subject, slices
from bench.selectors import label
from bench.stats import Partial
from estimators import Estimator, Integrand, State, parameters, rows

FINGERPRINT_BLOCKS = 8
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Settings:
    """How cells are measured.

    Args:
        replicates: independent calls R, rounded up to whole blocks.
        seed: root of all noise.
        dtype: "float32" or "float64", of samples and gradients; sums are always float64.
        device: "cpu" or "cuda".
        common_noise: do all estimators of an objective share their noise, so that they compare pairwise?
        timing: measure seconds too, afterwards? They need the machine to themselves.
        adapt_seed: root of the noise that a state learns from; the seed when None. Another seed then measures the same
            state again.
    """

    replicates: int = 10_000
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    common_noise: bool = True
    timing: bool = False
    adapt_seed: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.replicates, bool) or not isinstance(self.replicates, int) or self.replicates < 1:
            raise ValueError(f"replicates is a whole number of at least 1 (got {self.replicates!r}).")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed is a whole number of at least 0 (got {self.seed!r}).")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is float32 or float64 (got {self.dtype!r}).")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device is cpu or cuda (got {self.device!r}).")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is cuda, and torch finds no CUDA device here. Use device='cpu'.")


class Engine:
    """A cell made ready: it computes the gradients of any of its blocks.

    The result depends on cell, settings and block number alone, so any process may compute any block.

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
        self.cell, self.settings, self.truncate_at = cell, settings, truncate_at
        self.device = torch.device(settings.device)
        if self.device.type == "cpu":
            keep_memory()
        self.problem = problem or cell.objective.build(DTYPES[settings.dtype], self.device)
        self.q: Distribution = self.problem.q(self.problem.theta)
        self.groups = {name: t.numel() for name, t in self.problem.theta.items()}
        self.size = sum(self.groups.values())
        self.sizes = blocks(cell, settings.replicates, settings.device)
        self.points = cell.estimator.points(self.q)
        self.pull_back = PullBack(self.q, self.problem.theta)
        self.workspace = Workspace()
        self.state: State | None = None
        if cell.estimator.needs_state:
            self.state = cell.estimator.init(self.q, self.generator("init", 0))
            if state is not None and self.state is not None:
                self.state.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
                self.freeze()

    def generator(self, stage: str, block: int) -> Generator:
        """Return the generator of a block: seeded by root seed, stage, objective and block number."""
        subject = noise_subject(self.cell, common=self.settings.common_noise)
        root, learned = self.settings.seed, self.settings.adapt_seed
        if stage in ("init", "adapt") and learned is not None:
            root = learned
        seed = record.block_seed(root, stage, subject, block)
        return Generator(self.device).manual_seed(seed)

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

    def gradients(self, block: int, stage: str = "measure") -> Tensor:
        """Return the row gradients of a block, ``[rows, size]``."""
        return self.batch(self.sizes[block], self.generator(stage, block))

    def batch(self, count: int, generator: Generator) -> Tensor:
        """Return the row gradients of ``count`` calls, ``[count, size]``, made in slices where they are large."""
        cut = slices(count, self.points, self.cell.objective, self.settings.device)
        parts = [self.calls(count // cut, generator) for _ in range(cut)]
        # What made q is passed once, by all slices together: its matrix products are too small for one slice alone.
        return self.pull_back(parts[0] if cut == 1 else tuple(torch.cat(part) for part in zip(*parts, strict=True)))

    def row_gradients(self, count: int, generator: Generator) -> Tensor:
        """Return the gradients of ``count`` independent calls, ``[count, size]``."""
        return self.pull_back(self.calls(count, generator))

    def calls(self, count: int, generator: Generator) -> tuple[Tensor, ...]:
        """Return the gradients of ``count`` independent calls at q's own parameters, each ``[count, ...]``."""
        r = rows(self.q, count)
        return self.own_gradients(r, self.problem.integrand(r), generator)

    def own_gradients(self, r: Distribution, f: Integrand, generator: Generator) -> tuple[Tensor, ...]:
        """Call the estimator on rows and return the gradients at their own parameters, each ``[count, ...]``.

        Raises:
            ValueError: the loss is not one value per batch element, or has no gradient at q's parameters.
        """
        loss = checked_loss(self.cell.estimator, self.cell.estimator(f, r, generator, self.state), r)
        leaves = [t for t in parameters(r).values() if t.requires_grad]
        total = loss.flatten(1).mean(1).sum() if loss.dim() > 1 else loss.sum()
        return torch.autograd.grad(total, leaves, materialize_grads=True)

    @functools.cached_property
    def runs(self) -> list[range]:
        """Successive blocks of equal rows that are reduced together: every process makes the same."""
        out, start = [], 0
        while start < len(self.sizes):
            stop = min(start + together(self.sizes[start], self.size), len(self.sizes))
            out.append(range(start, stop))
            start = stop
        return out

    def partials(self, blocks: range, centre: Tensor, exact: Tensor | None) -> Iterator[tuple[Partial, str]]:
        """Yield the sums of blocks, and the digest of a block's raw gradients where the fingerprint needs it.

        Args:
            blocks: whole ``runs``.
            centre: a point near the mean gradient, ``[size]``, float64.
            exact: the exact gradient, or None.
        """
        for run in self.runs:
            if run.start not in blocks:
                continue
            gradients = [self.gradients(block) for block in run]
            sums = block_partials(
                gradients,
                first=run.start,
                groups=self.groups,
                centre=centre,
                exact=exact,
                replicates=sum(self.sizes),
                workspace=self.workspace,
                truncate_at=self.truncate_at,
            )
            for block, g, partial in zip(run, gradients, sums, strict=True):
                yield partial, digest(g) if block < FINGERPRINT_BLOCKS else ""


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


def digest(gradients: Tensor) -> str:
    """Return the digest of a block's raw gradients."""
    return hashlib.sha256(gradients.cpu().numpy().tobytes()).hexdigest()


class PullBack:
    """Carries gradients at q's own parameters back to theta, all rows together.

    Args:
        q: the distribution, built from theta.
        theta: named leaf tensors.
    """

    def __init__(self, q: Distribution, theta: dict[str, Tensor]) -> None:
        own = [t for t in parameters(q).values() if t.requires_grad]
        self.theta = list(theta.values())
        routes = [_direct(t, self.theta) for t in own]
        self.direct = [(i, *route) for i, route in enumerate(routes) if route is not None]
        self.made = [i for i, route in enumerate(routes) if route is None]
        self.outputs = [own[i] for i in self.made]

    def __call__(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """Return ``[rows, size]``, theta's tensors flattened one after the other."""
        found: list[Tensor | None] = [None] * len(self.theta)

        def add(k: int, extra: Tensor) -> None:
            before = found[k]
            found[k] = extra if before is None else before + extra

        for i, k, slope in self.direct:
            add(k, gradients[i] if slope is None else gradients[i] * slope)
        if self.made:
            pulled = torch.autograd.grad(
                self.outputs,
                self.theta,
                [gradients[i] for i in self.made],
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=True,
            )
            for k, extra in enumerate(pulled):
                if extra is not None:
                    add(k, extra)
        count = gradients[0].shape[0]
        flat = [
            t.new_zeros(count, t.numel()) if g is None else g.reshape(count, -1)
            for t, g in zip(self.theta, found, strict=True)
        ]
        return flat[0] if len(flat) == 1 else _side_by_side(flat)


LONG = 2048
"""Rows from which ``torch.cat`` takes several times as long to put single columns side by side as to copy them."""


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """Return the columns of all parts, ``[rows, size]``."""
    if len(parts[0]) < LONG or any(part.shape[1] > 1 for part in parts):
        return torch.cat(parts, 1)
    out = parts[0].new_empty(len(parts[0]), len(parts))
    for column, part in zip(out.unbind(1), parts, strict=True):
        column.copy_(part.squeeze(1))
    return out


_ELEMENTWISE = tuple(f"{name}Backward" for name in ("Exp", "Sigmoid", "Softplus", "Tanh", "Expand"))
"""What autograd calls functions with a diagonal Jacobian; the last, of ``broadcast_all``, where it keeps the shape."""


def _direct(own: Tensor, theta: list[Tensor]) -> tuple[int, Tensor | None] | None:
    """Return which tensor of theta q's own parameter is, or is an elementwise function of, and its derivative there.

    The derivative is None where it is 1. None instead of both where there is no such tensor: autograd has to do it.
    """
    node, steps = own.grad_fn, 0
    while node is not None and node.name().startswith(_ELEMENTWISE):
        steps += not node.name().startswith("Expand")
        node = node.next_functions[0][0]
    leaf = own if own.grad_fn is None else getattr(node, "variable", None)
    for k, t in enumerate(theta):
        if t is leaf and t.shape == own.shape:
            return k, torch.autograd.grad(own.sum(), t, retain_graph=True)[0] if steps else None
    return None


def exact_gradient(objective: Objective, problem: Problem) -> tuple[float, NDArray[np.float64]]:
    """Return the exact value and gradient, ``[size]``, in float64 at the very point of the problem."""
    sharp = objective.build(torch.float64, "cpu")
    if sharp.exact is None:
        raise ValueError(f"{label(objective)} declares has_exact and builds a problem without an exact value.")
    theta = {k: t.detach().to("cpu", torch.float64).requires_grad_() for k, t in problem.theta.items()}
    value = sharp.exact(theta)
    gradients = torch.autograd.grad(value, list(theta.values()), materialize_grads=True)
    return value.item(), torch.cat([g.flatten() for g in gradients]).numpy()
