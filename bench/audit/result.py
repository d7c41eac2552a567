"""What an audit returns."""

from dataclasses import asdict, dataclass
from typing import Any

from bench.audit.findings import Findings
from bench.audit.words import sentence, text


@dataclass(frozen=True)
class Audit(Findings):
    """What an audit has found about a loss. ``str(audit)`` is the text that ``bench audit`` prints.

    The fields are those of ``Findings``. For example, ``targets["reward"]`` compares the loss's expected gradient with
    the gradient of the expected reward. There is one ``Comparison``, with ``scale``, ``angle`` and ``direction``, for
    each of the nine policies on which the loss was called.
    """

    @property
    def sentence(self) -> str:
        """What the loss's expected gradient is, in words: one sentence for each of its parts, such as the penalty.

        A sentence for each sign of a common mistake follows.
        """
        return sentence(self)

    def __str__(self) -> str:
        """Return the text that ``bench audit`` prints."""
        return text(self)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values, for JSON: all fields of the audit, and its ``sentence``."""
        return {"sentence": self.sentence, **asdict(self)}
