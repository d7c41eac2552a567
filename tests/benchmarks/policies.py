"""Policy gradients of token sequences against loops in plain torch: ``python -m tests.benchmarks.policies``.

Writes ``results/performance/policies.md``: estimates per second of the engine and of the loops that people write, and
the ratios of their times, from one run on one thread. A loop makes one estimate at a time: it writes the group of
answers, sums their weighted log-probabilities and calls ``backward()``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.measurement.engine import Engine, exact_gradient
from bench.measurement.moments import summarise_cell
from bench.objectives import Verifier
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.environment import environment
from estimators import PolicyGradient, PolicyReturn, TablePolicy, TokenSequence
from tests.benchmarks.interleaved import Job, Laps, interleave

OUT = Path(__file__).parents[2] / "results" / "performance"
GROUP = 8
"""Number of answers of an estimate."""
SECONDS = 10
"""Time for a case."""
GRADIENTS, WHOLE = "engine, gradients", "engine, every statistic"
HEADER = ["case", "job", "estimates/s", f"job / {GRADIENTS}", f"job / {WHOLE}"]


class Loop:
    """Estimates of the gradient, one by one, by ``backward()``.

    Args:
        objective: an objective with one prompt.
    """

    def __init__(self, objective: Verifier) -> None:
        problem = objective.build()
        q = problem.q(problem.theta)
        f = problem.integrand(q)
        assert isinstance(q, TokenSequence)
        assert isinstance(f, PolicyReturn)
        self.q, self.f, self.theta = q, f, problem.theta
        if isinstance(q.policy, TablePolicy):
            self.x, self.p = (
                q.enumerate_support(expand=False)[:, 0],
                q.log_prob(q.enumerate_support())[:, 0].exp().detach(),
            )
            self.inside, prefixes = q.mask(self.x), [torch.zeros(len(self.x), dtype=torch.long)]
            for token in self.x.unbind(-1)[:-1]:
                prefixes.append(prefixes[-1] * (q.vocabulary - 1) + token)
            self.prefixes = torch.stack(prefixes, -1)

    def run(self, written: Callable[[], tuple[Tensor, Tensor]], count: int) -> list[Tensor]:
        """Make ``count`` estimates and return the last gradient.

        ``written`` returns answers, ``[G, T]``, and their log-probabilities, ``[G]``, with a graph.
        """
        for _ in range(count):
            for t in self.theta.values():
                t.grad = None
            x, log_prob = written()
            reward = self.f.reward(x.unsqueeze(1))[:, 0]
            advantage = (reward - reward.mean()) / (GROUP - 1)
            (advantage * log_prob).sum().backward()
        return [t.grad for t in self.theta.values() if t.grad is not None]

    def table_by_token(self) -> tuple[Tensor, Tensor]:
        """Write answers token by token, with a row of the table for each."""
        (logits,) = self.theta["logits"].unbind(0)
        prefix, total, tokens = torch.zeros(GROUP, dtype=torch.long), torch.zeros(GROUP), list[Tensor]()
        for _ in range(self.q.length):
            each = logits[prefix].log_softmax(-1)
            token = torch.multinomial(each.detach().exp(), 1)
            going = tokens[-1] != 0 if tokens else torch.ones(GROUP, dtype=torch.bool)
            total = total + each.gather(-1, token).squeeze(-1) * going
            tokens.append(token.squeeze(-1) * going)
            prefix = prefix * (self.q.vocabulary - 1) + tokens[-1]
        return torch.stack(tokens, -1), total

    def by_token(self) -> tuple[Tensor, Tensor]:
        """Write answers token by token, each after a pass over all tokens before it."""
        x, total = torch.zeros(GROUP, 0, dtype=torch.long), torch.zeros(GROUP)
        weights = {name: t.unsqueeze(0) for name, t in self.theta.items()}
        for t in range(self.q.length):
            seen = torch.cat([x, torch.zeros(GROUP, 1, dtype=torch.long)], -1)
            each = self.q.policy.logits(weights, seen[None, :, None])[0, :, 0, -1].log_softmax(-1)
            x, total = self._next(x, total, each, t)
        return x, total

    def by_token_with_cache(self) -> tuple[Tensor, Tensor]:
        """Write answers token by token, with a cache of keys and values that keeps its graph."""
        x, total, cache, last = torch.zeros(GROUP, 0, dtype=torch.long), torch.zeros(GROUP), None, None
        weights = {name: t.unsqueeze(0) for name, t in self.theta.items()}
        for t in range(self.q.length):
            logits, cache = self.q.policy.step(weights, last, cache, GROUP)
            x, total = self._next(x, total, logits[0, :, 0].log_softmax(-1), t)
            last = x[None, :, None, -1]
        return x, total

    def _next(self, x: Tensor, total: Tensor, each: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Draw a token for each answer; return the longer answers and their log-probabilities."""
        token = torch.multinomial(each.detach().exp(), 1)
        going = (x[:, -1:] != 0).expand(-1, 1) if t else torch.ones_like(token, dtype=torch.bool)
        return torch.cat([x, token * going], -1), total + (each.gather(-1, token) * going).squeeze(-1)

    def by_draw_and_pass(self) -> tuple[Tensor, Tensor]:
        """Write answers with a cache and without a graph, then pass over them once, as most trainers do."""
        x = self.q.draw(torch.Size((GROUP,)), None)
        return x[:, 0], self.q.log_prob(x)[:, 0]

    def table_by_number(self) -> tuple[Tensor, Tensor]:
        """Draw the numbers of answers from the probabilities of all of them, and look up their rows of the table."""
        (logits,) = self.theta["logits"].unbind(0)
        number = torch.multinomial(self.p, GROUP, replacement=True)
        x = self.x[number]
        each = logits[self.prefixes[number]].log_softmax(-1).gather(-1, x.unsqueeze(-1)).squeeze(-1)
        return x, (each * self.inside[number]).sum(-1)


@dataclass(frozen=True)
class Case:
    """An objective, the loops that it is compared with, and the estimates in a lap of a loop and of the engine."""

    name: str
    objective: Verifier
    loops: dict[str, str]
    estimates: int
    replicates: int


CASES = [
    Case(
        "table, T = 4",
        Verifier(policy="table", length=4, prompts=1),
        {"token by token": "table_by_token", "draws a number": "table_by_number"},
        100,
        65_536,
    ),
    Case(
        "transformer, T = 4",
        Verifier(policy="transformer", length=4, prompts=1),
        {"token by token": "by_token", "with a cache": "by_token_with_cache", "draw, then pass": "by_draw_and_pass"},
        20,
        2_048,
    ),
    Case(
        "transformer, T = 8, no table",
        Verifier(policy="transformer", length=8, prompts=1),
        {"token by token": "by_token", "with a cache": "by_token_with_cache", "draw, then pass": "by_draw_and_pass"},
        10,
        256,
    ),
]


def jobs(case: Case, scale: float = 1.0) -> dict[str, Job]:
    """Return the loops of a case, and what the engine does on it."""
    loop, made = Loop(case.objective), {}
    count = max(1, round(case.estimates * scale))
    for name, way in case.loops.items():
        made[name] = Job(lambda way=way: loop.run(getattr(loop, way), count), count)  # type: ignore[misc]
    product = engine(case, max(64, round(case.replicates * scale)))
    exact = exact_gradient(case.objective, product.problem)[1] if case.objective.has_exact else None
    draws, replicates = range(len(product.sizes)), sum(product.sizes)
    made[GRADIENTS] = Job(lambda: [product.parts(draw) for draw in draws][-1], replicates)
    made[WHOLE] = Job(lambda: summarise_cell(product, exact), replicates)
    return made


def engine(case: Case, replicates: int) -> Engine:
    """Return the engine of a case."""
    return Engine(Cell(PolicyGradient(n=GROUP), case.objective), Settings(replicates=replicates))


def lines(case: Case, laps: Laps) -> Iterator[list[str]]:
    """Yield a row for each job: the case, the job, its estimates per second, and its time over that of the engine."""
    for job in laps.seconds:
        ratios = (laps.ratio(job, base) for base in (GRADIENTS, WHOLE))
        shown = (f"{r.median:.3g} [{r.low:.3g}, {r.high:.3g}]" for r in ratios)
        yield [case.name, job, f"{1 / laps.median(job):,.0f}", *shown]


def page(rows: list[list[str]]) -> str:
    """Return the page with the table."""
    facts = environment()
    body = "\n".join("| " + " | ".join(row) + " |" for row in [HEADER, ["---"] * len(HEADER), *rows])
    return f"""# Policy gradients of token sequences

This page is made by one command:

```bash
python -m tests.benchmarks.policies
```

{facts["cpu"]} ({facts["cpu_capability"]}), Python {facts["python"]}, torch {facts["torch"]}, float32, one thread.

Each case is `verifier` with one prompt, five tokens, and `PolicyGradient(n={GROUP})`, which has {GROUP} answers.
A loop makes one estimate at a time and calls `backward()`. The last columns are the time of a job over that of the
engine: the median over rounds in which all jobs of a case take turns, with the 95 % interval of the median in brackets.

- *token by token* writes a token of all answers after a pass over those before it, and keeps the log-probabilities.
- *with a cache* keeps keys and values, so that a token costs one position.
- *draw, then pass* writes with a cache and without a graph, then passes over the answers once.
- *draws a number* draws answers from the list of all of them, then looks up their log-probabilities.
- *{GRADIENTS}* is a draw of gradients, *{WHOLE}* the work of `bench run` for a cell.

{body}
"""


def main(quick: bool, out: Path) -> None:
    """Time all cases, and write and print the table."""
    rows = []
    for case in CASES:
        made = jobs(case, 0.02 if quick else 1.0)
        laps = interleave(made, seconds=SECONDS, most=1) if quick else interleave(made, seconds=SECONDS)
        rows += lines(case, laps)
    text = page(rows)
    print(text)
    if not quick:
        (out / "policies.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only check that everything runs")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write")
    given = parser.parse_args()
    main(given.quick, given.out)
