"""The budget of advice: how many evaluations, or how many seconds, may be spent on measuring."""

import re
import time
from dataclasses import dataclass, field, replace
from math import inf
from typing import Self

from bench.planning.selectors import UsageError

DEFAULT = "1e6-evals,10s"
"""Default budget: it bounds the evaluations, which always give the same numbers, and the seconds where f is slow."""
_PART = re.compile(r"(?P<number>\d+(?:\.\d*)?(?:e\+?\d+)?)(?P<unit>-evals|s)", re.IGNORECASE)


@dataclass
class Budget:
    """The budget for measuring, with what has been spent so far.

    Args:
        evaluations: largest number of evaluations of f and of df/dx; one evaluation is at one sample of q, for one
            batch element.
        seconds: largest number of seconds of wall time.
        lenient: whether the first round may take longer than ``seconds``.
        spent: number of evaluations spent so far.
        begun: the time from which seconds count, by ``time.perf_counter``.
    """

    evaluations: float = inf
    seconds: float = inf
    lenient: bool = False
    spent: float = 0.0
    begun: float = field(default_factory=time.perf_counter)

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Return the budget that a text spells: ``1e5-evals``, ``10s`` or ``1e5-evals,10s``.

        If the text is None, return the default budget, with ``lenient`` set to True.

        Raises:
            UsageError: the text is no budget.
        """
        if text is None:
            return replace(cls.parse(DEFAULT), lenient=True)
        limits: dict[str, float] = {}
        for part in text.replace("_", "").split(","):
            match = _PART.fullmatch(part.strip())
            if match is None or match["unit"].lower() in limits or not float(match["number"]) > 0:
                raise UsageError(
                    f"{text!r} is no budget. Write evaluations, seconds or both: 1e5-evals, 10s or 1e5-evals,10s."
                )
            limits[match["unit"].lower()] = float(match["number"])
        return cls(limits.get("-evals", inf), limits.get("s", inf))

    @property
    def elapsed(self) -> float:
        """Seconds of wall time since the budget was made."""
        return time.perf_counter() - self.begun

    @property
    def used(self) -> float:
        """Share of the budget that is used up: the share of its evaluations or of its seconds, whichever is larger."""
        return max(self.spent / self.evaluations, self.elapsed / self.seconds)

    def affords(self, evaluations: float, seconds: float, share: float, keep: float = 0.0) -> float:
        """Return the number of replicates of every candidate that a share of the budget pays for; it may be below 1.

        When the replicates are paid, at least the fraction ``keep`` must be left. If the share is larger than that
        allows, the result is what the rest pays for.

        Args:
            evaluations: the evaluations that one replicate takes, summed over the candidates.
            seconds: the estimated seconds that one replicate takes, summed over the candidates.
            share: fraction of the whole budget, from 0 to 1.
            keep: fraction of the whole budget, from 0 to 1, that must be left.
        """
        evals = min(share * self.evaluations, (1 - keep) * self.evaluations - self.spent) / max(evaluations, 1e-12)
        left = min(share * self.seconds, (1 - keep) * self.seconds - self.elapsed) / max(seconds, 1e-12)
        return min(evals, left)
