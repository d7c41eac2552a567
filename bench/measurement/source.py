"""The gradients of a run in draws, and the partial sums of their blocks."""

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.measurement.draws import blocks_in, spans, starts, tracked_rows
from bench.measurement.reduction.blocks import draws_partial
from bench.measurement.reduction.kernels import Workspace
from bench.measurement.reduction.origin import Origin
from bench.stats import Partial

FINGERPRINT_DRAWS, FINGERPRINT_ROWS, FINGERPRINT_NUMBERS = 8, 256, 2**17
"""A fingerprint hashes the gradients of the first 8 draws: at most 256 rows and 2^17 numbers of each draw."""
Vector = NDArray[np.float64]
Remember = Callable[[int, Callable[[int], list[Tensor]]], list[Tensor]]
"""A function from the number of a draw, and from the function that computes its gradients, to the gradients."""


class Source(ABC):
    """Gradients in draws (batches of replicates), and the sums of these gradients. Subclasses provide the gradients.

    The attribute ``remember`` is a function: ``remember(draw, parts)`` returns the gradients of a draw before they are
    summed. By default, it calls the method ``parts(draw)``, which computes them. Set ``remember`` to return gradients
    that an earlier run has stored.

    Args:
        groups: the number of coordinates of every tensor of theta, by name.
        sizes: the number of replicates in each draw.
        device: the device that holds the gradients.
        truncate_at: the cut for the truncated variance: squared norms of centred gradients above the cut count as the
            cut. None to compute no truncated variance.
    """

    def __init__(
        self, groups: Mapping[str, int], sizes: Sequence[int], device: torch.device, truncate_at: float | None = None
    ) -> None:
        self.groups, self.sizes, self.device, self.truncate_at = dict(groups), list(sizes), device, truncate_at
        self.size = sum(self.groups.values())
        self.workspace = Workspace()
        self._first = 0
        self.remember: Remember = lambda draw, parts: parts(draw)

    @abstractmethod
    def parts(self, draw: int) -> list[Tensor]:
        """Return the gradients of a draw for every tensor of theta, each ``[rows, size of the tensor]``.

        A draw is a batch of replicates, a row one replicate.
        """

    def draw_gradients(self, draw: int) -> Tensor:
        """Return the gradients of a draw (batch), one row per replicate, ``[rows, size of theta]``."""
        return torch.cat(self.parts(draw), 1)

    @property
    def blocks(self) -> int:
        """The number of blocks in all draws of the cell's run.

        A draw is a batch of replicates. It is cut into blocks: groups of replicates that are summed together.
        """
        return sum(map(blocks_in, self.sizes))

    @functools.cached_property
    def _spans(self) -> list[range]:
        return spans(self.sizes, self.size)

    @property
    def spans(self) -> list[range]:
        """The spans of the run that are still to be summed. Every process cuts the run into the same spans.

        A span is a range of draws (batches) whose sums are computed in one pass.
        """
        return [span for span in self._spans if span.start >= self._first]

    def skip(self, replicates: int) -> None:
        """Leave the spans of the first ``replicates`` out of ``spans``, because they have been summed.

        A span is a range of draws (batches) whose sums are computed in one pass. The first ``replicates`` must make up
        whole spans.
        """
        self._first = starts(self.sizes).index(replicates)

    @functools.cached_property
    def origin(self) -> Origin:
        """The points that are subtracted from gradients before summing, and the units of their squared norms.

        Points and units come from the first draw (batch of replicates), so all processes have the same ones.
        """
        return Origin.of(self.parts(0))

    def partials(self, draws: range, centre: Vector, exact: Vector | None) -> Iterator[tuple[Partial, str]]:
        """Yield, for every span in ``draws``, its partial sums and the joined digests of its draws.

        A draw is a batch of replicates, a span a range of draws whose sums are computed in one pass. The digests
        identify the gradients of a run. Only the first 8 draws of the run have a digest.

        Args:
            draws: the numbers of the draws.
            centre: a point near the mean gradient, about which the sums are computed, ``[size of theta]``, float64.
            exact: the exact gradient, ``[size of theta]``, float64; None if it is unknown.
        """
        digests: dict[int, str] = {}

        def digested(draw: int) -> list[Tensor]:
            parts = self.remember(draw, self.parts)
            if draw < FINGERPRINT_DRAWS:
                digests[draw] = digest(parts)
            return parts

        near = torch.as_tensor(centre, device=self.device)
        target = None if exact is None else torch.as_tensor(exact, device=self.device)
        before, firsts = starts(self.sizes), starts([blocks_in(n) for n in self.sizes])
        tracked = tracked_rows(self.sizes, self.size)
        for span in (span for span in self._spans if span.start in draws):
            partial = draws_partial(
                digested,
                span,
                index=firsts[span.start],
                blocks=[blocks_in(self.sizes[draw]) for draw in span],
                groups=self.groups,
                centre=near,
                exact=target,
                replicates=sum(self.sizes),
                origin=self.origin,
                tracked=tracked if before[span.start] < tracked else 0,
                workspace=self.workspace,
                truncate_at=self.truncate_at,
            )
            yield partial, "".join(digests.get(draw, "") for draw in span)


def digest(parts: list[Tensor]) -> str:
    """Return a digest of the first gradients of a draw: of at most 256 rows and 2^17 numbers.

    A draw is a batch of replicates, and a row is one replicate. ``parts`` has the gradients for every tensor of theta,
    each ``[rows, size of the tensor]``.
    """
    sha, size = hashlib.sha256(), sum(g.shape[1] for g in parts)
    rows = max(1, min(FINGERPRINT_ROWS, FINGERPRINT_NUMBERS // size))
    for g in parts:
        sha.update(g[:rows].cpu().contiguous().numpy().data)
    return sha.hexdigest()
