"""Does the gate stay quiet if nothing has changed, and raise an alarm if something has?

Runs are resampled, block by block, from pools of real cells. The mean of an unbiased cell's pool serves as its exact
gradient, so that resampled runs have no bias, and a ratio of variances of exactly 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

from bench.gate import pairs
from bench.gate.baseline import Entry, entry_of
from bench.gate.decide import decide, screen
from bench.gate.findings import FAILING, Case, Finding, Sample
from bench.measurement.adaptation import adapt_state
from bench.measurement.engine import Engine
from bench.measurement.reduction.blocks import block_partial
from bench.measurement.reduction.kernels import Workspace
from bench.objectives import (
    BernoulliQuadratic,
    CategoricalPolynomial,
    ExponentialMoment,
    GaussianCosine,
    GaussianExponential,
    GaussianQuadratic,
    LogisticRegression,
)
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.stats import Accumulator, Partial, Sums, series, summarise, variance
from bench.stats.gate import STAGE_TWO_FACTOR, baseline_replicates
from estimators import (
    REBAR,
    RLOO,
    DisARM,
    GumbelSoftmax,
    Reparameterization,
    ScoreFunction,
    inject,
    parameters,
    uniform,
)
from tests.conformance.mutants import BaselineContainsItsOwnSample

CELLS = (
    Cell(ScoreFunction(), GaussianQuadratic(dim=1)),
    Cell(RLOO(n=4), GaussianQuadratic(dim=10)),
    Cell(Reparameterization(), GaussianQuadratic(dim=100)),
    Cell(ScoreFunction(), GaussianExponential()),
    Cell(Reparameterization(), GaussianCosine()),
    Cell(ScoreFunction(), BernoulliQuadratic(dim=1, target=0.499)),
    Cell(RLOO(n=2), BernoulliQuadratic(dim=10, target=0.499)),
    Cell(DisARM(), BernoulliQuadratic(dim=200, target=0.499)),
    Cell(REBAR(), BernoulliQuadratic(dim=10, target=0.1)),
    Cell(GumbelSoftmax(temperature=0.5), BernoulliQuadratic(dim=10, target=0.499)),
    Cell(RLOO(n=8), CategoricalPolynomial()),
    Cell(RLOO(n=4), LogisticRegression()),
    Cell(ScoreFunction(), ExponentialMoment()),
    Cell(ScoreFunction(), ExponentialMoment(rate=0.35, power=2)),
)
ROWS = 256
EACH = 17
"""Cells of a suite from each pool; a suite has 238 cells."""
FIRST = 10_000
"""Replicates of the first stage; a baseline has ten or forty times this number."""
BASELINES, FIRSTS = 20, 400
"""Runs per cell that suites draw from, in pairs."""


class LostCoupling(REBAR):
    """REBAR of bits whose relaxed sample z' ignores the outcome: still unbiased, but without a control variate."""

    def __call__(self, f: Any, q: Any, generator: Any = None, state: Any = None) -> Tensor:
        temperature = self.temperature if state is None else state.log_temperature.exp()
        coefficient = self.coefficient if state is None else state.coefficient
        logits = parameters(q)["logits"].detach()
        z, other = (logits + uniform(Size((self.n, *logits.shape)), logits, generator).logit() for _ in range(2))
        x = (z > 0).to(z.dtype)
        fx = f(x)
        _, slope = self._relaxed(f, q, z, temperature)
        c, other_slope = self._relaxed(f, q, other, temperature)
        weight = (fx.detach() - coefficient * c).unsqueeze(-1)
        gradient = (weight * (x - logits.sigmoid()) + coefficient * (slope - other_slope)).mean(0)
        return fx.mean(0) + inject(q, logits=gradient)


Change = Callable[[Tensor, Tensor], Tensor]
FAULTS: dict[str, Change] = {
    "variance × 1.25": lambda g, mean: mean + 1.25**0.5 * (g - mean),
    "variance × 1.5": lambda g, mean: mean + 1.5**0.5 * (g - mean),
    "variance × 2": lambda g, mean: mean + 2**0.5 * (g - mean),
    "bias of 5 %": lambda g, mean: g + 0.05 * mean,
}
"""Faults by name: functions of the gradients ``[rows, size]`` and their mean ``[size]``."""
PLANTED = (
    ("baseline contains its own sample", CELLS[1], Cell(BaselineContainsItsOwnSample(n=4), CELLS[1].objective)),
    ("baseline contains its own sample", CELLS[10], Cell(BaselineContainsItsOwnSample(n=8), CELLS[10].objective)),
    ("lost coupling", CELLS[8], Cell(LostCoupling(), CELLS[8].objective)),
)
"""Faults that are estimators: the name, the sound cell, the faulty cell."""


def gradients_of(cell: Cell, blocks: int) -> Tensor:
    """Return gradients of a cell, ``[blocks, rows, size]``; four times as many blocks for a heavy tail.

    A long run contains most of the pool twice, and a tail of values that occur twice looks discrete.
    """
    blocks *= 4 if isinstance(cell.objective, ExponentialMoment) else 1
    engine = Engine(cell, Settings(replicates=blocks * ROWS))
    adapt_state(engine)
    at_once = min(blocks, 16)
    parts = [engine.gradients(at_once * ROWS, engine.generator("calibration", k)) for k in range(-(-blocks // at_once))]
    return torch.cat(parts)[: blocks * ROWS].view(blocks, ROWS, engine.size)


@dataclass(frozen=True, eq=False)
class Pool:
    """Blocks of a cell, their squared norms ``[blocks, rows]``, and the distances of pairs of rows."""

    cell: Cell
    exact: np.ndarray[Any, Any]
    partials: list[Partial]
    w: np.ndarray[Any, Any]
    halves: np.ndarray[Any, Any]

    @classmethod
    def of(cls, cell: Cell, gradients: Tensor, *, exact: Tensor | None = None, change: Change | None = None) -> Pool:
        """Make a pool of gradients ``[blocks, rows, size]``.

        Args:
            cell: the cell.
            gradients: from ``gradients_of``.
            exact: the exact gradient, from another pool; the mean of this pool when None.
            change: the fault to put into the gradients; None for no fault.
        """
        if exact is None:
            exact = torch.stack([g.double().mean(0) for g in gradients]).mean(0)
        size, partials, norms, halves, space = gradients.shape[2], [], [], [], Workspace()
        for block in gradients:
            g = block if change is None else change(block.double(), exact).float()
            partials.append(
                block_partial(
                    g,
                    index=0,
                    groups={"theta": size},
                    centre=exact,
                    exact=exact,
                    replicates=FIRST,
                    workspace=space,
                )
            )
            norms.append((g - g.mean(0)).square().sum(1) * (ROWS / (ROWS - 1)))
            halves.append((g[0::2] - g[1::2]).double().square().sum(1) / 2)
        return cls(cell, exact.numpy(), partials, torch.stack(norms).numpy(), torch.stack(halves).numpy())

    def resample(self, replicates: int, random: np.random.Generator) -> tuple[Sums, np.ndarray[Any, Any]]:
        """Return the sums of a run whose blocks are drawn with replacement, and the numbers of these blocks."""
        drawn = random.integers(len(self.partials), size=replicates // ROWS)
        sums = Accumulator(
            {"theta": self.exact.size}, replicates=drawn.size * ROWS, centre=self.exact, exact=self.exact
        )
        for index, block in enumerate(drawn):
            sums.add(replace(self.partials[block], index=index))
        return sums.sums(), drawn

    def entry(self, sums: Sums) -> tuple[Entry, str]:
        """Return the entry of a run in a baseline, and the verdict on its bias."""
        estimator = self.cell.estimator
        summary = summarise(sums, exact=self.exact, dtype="float32")
        line = {
            "cell": self.cell.id,
            "unbiased": estimator.unbiased,
            "deterministic": estimator.deterministic,
            "fingerprint": "",
            "size": self.exact.size,
            "f_evals": None,
            "grad_evals": None,
            "summary": summary.to_json(),
        }
        return entry_of(line, *self.cell.label.split(" on ")), summary.verdict

    def against(self, entry: Entry, blocks: np.ndarray[Any, Any], base: Entry) -> Entry:
        """Return the entry of a run with its squared norms truncated at the cut of the baseline."""
        cut = base.truncated_at
        assert cut is not None
        if base.is_heavy:
            return entry.model_copy(update=pairs.truncated(self.halves[blocks].ravel(), cut))
        shape = variance.shape(series.moments(np.minimum(self.w[blocks].ravel(), cut)))
        return entry.model_copy(update={"truncated_at": cut, "truncated_mean": shape.mean, "truncated_cv2": shape.cv2})

    def sample(self, replicates: int, base: Entry, random: np.random.Generator) -> Sample:
        """Return a new run, truncated at the cut of the baseline."""
        sums, blocks = self.resample(replicates, random)
        entry, verdict = self.entry(sums)
        return Sample(self.against(entry, blocks, base), 0, verdict)

    def baselines(self, count: int, random: np.random.Generator) -> list[Entry]:
        """Return runs as long as a baseline of this cell."""
        first, _ = self.entry(self.resample(FIRST, random)[0])
        replicates = baseline_replicates(first.cv2)
        found = []
        for _ in range(count):
            sums, blocks = self.resample(replicates, random)
            entry, _verdict = self.entry(sums)
            of_pairs = pairs.truncated(self.halves[blocks].ravel()) if entry.is_heavy else {}
            found.append(entry.model_copy(update=of_pairs))
        return found


def random_of(*names: str) -> np.random.Generator:
    """Return the random generator that belongs to these names."""
    return np.random.default_rng(list(hashlib.sha256("/".join(names).encode()).digest()))


def case_of(pool: Pool, name: str, base: Entry, first: Sample, random: np.random.Generator) -> Case:
    """Return a case; it has a confirmation if the first run was flagged."""
    case = Case(name, pool.cell.label, base, first=first)
    flags = screen(case)
    if not (flags.variance or flags.bias):
        return case
    return replace(case, second=pool.sample(STAGE_TWO_FACTOR * FIRST, base, random))


def null_cases(cell: Cell, suites: int, blocks: int, firsts: int = FIRSTS, baselines: int = BASELINES) -> list[Case]:
    """Return the cases that a sound cell adds to a number of suites, ``EACH`` to every suite."""
    random = random_of("null", cell.id)
    pool = Pool.of(cell, gradients_of(cell, blocks))
    bases = pool.baselines(baselines, random)
    made = []
    for _ in range(firsts):
        sums, drawn = pool.resample(FIRST, random)
        made.append((*pool.entry(sums), drawn))
    cases = []
    for number in range(suites * EACH):
        base = bases[random.integers(len(bases))]
        entry, verdict, drawn = made[random.integers(len(made))]
        first = Sample(pool.against(entry, drawn, base), 0, verdict)
        cases.append(case_of(pool, f"{cell.id} {number}", base, first, random))
    return cases


def suites_of(cases: list[list[Case]]) -> list[list[Finding]]:
    """Return the findings of the gate on every suite, which takes ``EACH`` cases of every list."""
    cells = len(cases) * EACH
    return [
        decide(
            [case for each in cases for case in each[start : start + EACH]],
            cells=cells,
            confirming=STAGE_TWO_FACTOR * FIRST,
        )
        for start in range(0, len(cases[0]), EACH)
    ]


def power(sound: Cell, faulty: tuple[str, Cell] | None, trials: int, blocks: int) -> list[dict[str, object]]:
    """Return the rate at which a fault in one cell of a suite is caught, one row per fault.

    Args:
        sound: the cell of the baseline.
        faulty: the name of the fault and the cell that has it; all of ``FAULTS`` when None.
        trials: trials per fault.
        blocks: blocks of every pool.
    """
    gradients = gradients_of(sound, blocks)
    pool = Pool.of(sound, gradients)
    exact = torch.as_tensor(pool.exact)
    if faulty is None:
        wrong = {name: Pool.of(sound, gradients, exact=exact, change=change) for name, change in FAULTS.items()}
    else:
        name, cell = faulty
        wrong = {name: replace(Pool.of(cell, gradients_of(cell, blocks), exact=exact), cell=sound)}
    bases = pool.baselines(min(8, trials), random_of("power", sound.id))
    sd = float(np.sqrt(np.mean([float(p.w.mean) for p in pool.partials])))
    rows: list[dict[str, object]] = []
    for name, other in wrong.items():
        random = random_of("power", sound.id, name)
        findings = []
        for trial in range(trials):
            base = bases[trial % len(bases)]
            case = case_of(other, "faulty", base, other.sample(FIRST, base, random), random)
            findings += decide([case], cells=len(CELLS) * EACH, confirming=STAGE_TWO_FACTOR * FIRST)
        off = np.mean([p.coordinate.mean for p in other.partials], axis=0)
        rows.append(
            {
                "cell": sound.label,
                "fault": name,
                "trials": trials,
                "caught": float(np.mean([f.verdict in FAILING for f in findings])),
                "variance_ratio": float(np.mean([f.change or 1.0 for f in findings])),
                "bias_per_sd": float(np.linalg.norm(off)) / sd,
                "cv2": bases[0].cv2,
                "khat": bases[0].khat,
                "declared_unbiased": sound.estimator.unbiased,
            }
        )
    return rows
