"""What the tests of the gate's commands save: a small baseline, and an estimator in a user's own file."""

import sys
from pathlib import Path

SAVE = ("baseline", "save", "ci", "-e", "reparameterization:n=1,4", "-o", "gaussian-quadratic", "--quiet")
MINE = """
from dataclasses import dataclass
from estimators import Reparameterization, ScoreFunction

@dataclass(frozen=True)
class Mine(Reparameterization):
    def __call__(self, f, q, generator=None, state=None):
        {body}
"""
GOOD, FEWER = "return Reparameterization(n=4)(f, q, generator)", "return Reparameterization(n=1)(f, q, generator)"


def write_own(folder: Path, body: str = GOOD) -> None:
    """Write an estimator, and have this process forget the one before: it loads a user's file once."""
    (folder / "mine.py").write_text(MINE.format(body=body))
    for name in [name for name, module in sys.modules.items() if str(folder) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]
