"""The rows of the table: an estimator on an objective, its hand-written counterpart, the number of replicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from bench.measurement.adaptation import adapt_state
from bench.measurement.engine import Engine
from bench.objectives import (
    BernoulliQuadratic,
    BernoulliVAE,
    CategoricalLinearQuadratic,
    GaussianQuadratic,
    LogisticRegression,
    Objective,
)
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import (
    REBAR,
    RELAX,
    RLOO,
    DisARM,
    Estimator,
    GumbelSoftmax,
    ReinMax,
    Reparameterization,
    ScoreFunction,
    StraightThrough,
    StraightThroughGumbelSoftmax,
)
from estimators.relax import LearnedRelaxation
from tests.benchmarks import closed

GAUSS = GaussianQuadratic(dim=1, target=1.0, mean=0.0)
GAUSS_100 = GaussianQuadratic(dim=100)
BITS = BernoulliQuadratic(dim=200, target=0.499)
ONE_HOTS = CategoricalLinearQuadratic(dim=20, classes=10)
LOGISTIC = LogisticRegression()
AUTOENCODER = BernoulliVAE(dim=20)

WORKLOADS = {
    "W1": "Gaussian, D = 1, quadratic",
    "W2": "Gaussian, D = 100, quadratic",
    "W3": "Bernoulli, D = 200, quadratic",
    "W4": "20 categoricals of 10 classes, linear + quadratic",
    "W5": "Bayesian logistic regression, 569 x 31, n = 10",
    "W6": "binary VAE on digits, 17,020 encoder weights",
}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    The hand-written version takes some tenths of a second for ``replicates``, except W1, which is judged at 1e7. An
    estimator with a state is measured with its initial state, or with a ``learned`` one.
    """

    workload: str
    name: str
    estimator: Estimator
    objective: Objective
    closed: Callable[[], closed.Closed]
    replicates: int
    learned: bool = False

    @property
    def id(self) -> str:
        """``W1 score``, and so on."""
        return f"{self.workload} {self.name}"


def _rebar() -> closed.Closed:
    # The initial temperature and coefficient of REBAR: its cost does not depend on them.
    return closed.BernoulliREBAR(BITS, REBAR.temperature, REBAR.coefficient)


def _relax() -> closed.Closed:
    engine = Engine(Cell(RELAX(), BITS), Settings())
    adapt_state(engine)
    return closed.BernoulliRELAX(BITS, cast(LearnedRelaxation, engine.state))


ROWS = [
    Row("W1", "score", ScoreFunction(), GAUSS, lambda: closed.GaussianScore(GAUSS), 10**7),
    Row("W1", "pathwise", Reparameterization(), GAUSS, lambda: closed.GaussianPathwise(GAUSS), 10**7),
    Row("W2", "RLOO(4)", RLOO(n=4), GAUSS_100, lambda: closed.GaussianRLOO(GAUSS_100, 4), 200_000),
    Row("W2", "pathwise", Reparameterization(), GAUSS_100, lambda: closed.GaussianPathwise(GAUSS_100), 800_000),
    Row("W3", "score", ScoreFunction(), BITS, lambda: closed.BernoulliScore(BITS), 500_000),
    Row("W3", "RLOO(2)", RLOO(n=2), BITS, lambda: closed.BernoulliRLOO(BITS, 2), 250_000),
    Row("W3", "DisARM", DisARM(), BITS, lambda: closed.BernoulliDisARM(BITS), 400_000),
    Row("W3", "Gumbel-softmax", GumbelSoftmax(), BITS, lambda: closed.BernoulliGumbel(BITS, 1.0), 400_000),
    Row(
        "W3",
        "ST-Gumbel",
        StraightThroughGumbelSoftmax(),
        BITS,
        lambda: closed.BernoulliSTGumbel(BITS, 1.0),
        400_000,
    ),
    Row("W3", "REBAR", REBAR(), BITS, _rebar, 250_000),
    Row("W3", "RELAX", RELAX(), BITS, _relax, 200_000, learned=True),
    Row("W4", "Gumbel-softmax", GumbelSoftmax(), ONE_HOTS, lambda: closed.CategoricalGumbel(ONE_HOTS, 1.0), 300_000),
    Row("W4", "ST", StraightThrough(), ONE_HOTS, lambda: closed.CategoricalST(ONE_HOTS), 600_000),
    Row("W4", "ReinMax", ReinMax(), ONE_HOTS, lambda: closed.CategoricalReinMax(ONE_HOTS), 400_000),
    Row("W4", "RLOO(2)", RLOO(n=2), ONE_HOTS, lambda: closed.CategoricalRLOO(ONE_HOTS, 2), 400_000),
    Row("W5", "pathwise", Reparameterization(n=10), LOGISTIC, lambda: closed.LogisticPathwise(LOGISTIC, 10), 16_384),
    Row("W5", "RLOO(10)", RLOO(n=10), LOGISTIC, lambda: closed.LogisticRLOO(LOGISTIC, 10), 16_384),
    Row("W6", "RLOO(2)", RLOO(n=2), AUTOENCODER, lambda: closed.AutoencoderRLOO(AUTOENCODER, 2), 6_144),
    Row("W6", "DisARM", DisARM(), AUTOENCODER, lambda: closed.AutoencoderDisARM(AUTOENCODER), 6_144),
    Row(
        "W6",
        "ST-Gumbel",
        StraightThroughGumbelSoftmax(),
        AUTOENCODER,
        lambda: closed.AutoencoderSTGumbel(AUTOENCODER, 1.0),
        6_144,
    ),
]
