"""What an audit returns."""

from dataclasses import asdict, dataclass
from typing import Any

from bench.audit.findings import Findings
from bench.audit.words import sentence, text


@dataclass(frozen=True)
class Audit(Findings):
    """What an audit has found about a loss. ``str(audit)`` is the text that ``bench audit`` prints.

    The fields are those of ``Findings``. For example, ``targets["reward"]`` compares the loss's expected gradient with
    the gradient of the expected reward: one ``Comparison`` for each policy, with ``scale``, ``angle`` and
    ``direction``.
    """

    @property
    def sentence(self) -> str:
        """What the loss's expected gradient is, in words: one sentence for each of its parts, such as the penalty."""
        return sentence(self)

    def __str__(self) -> str:
        """Return the text that ``bench audit`` prints."""
        return text(self)

    def to_json(self) -> dict[str, Any]:
        """Return the sentence and all numbers as plain values for JSON."""
        return {"sentence": self.sentence, **asdict(self)}
