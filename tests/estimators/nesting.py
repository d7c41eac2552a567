"""Every pair of estimators that fits two layers, against the exact gradient.

``python -m tests.estimators.nesting`` measures all pairs with 20,000 replicates; another number may follow.
"""

import itertools
import math
import sys
import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal

from estimators import Layers, Nested, Refusal, catalogue, parameters, rows
from tests.problems import bits, hermite, leaf, outcomes, seeded
from tests.tolerances import z_limit

NAMES = [name for name in catalogue() if name != "nested"]


def product(z, weight):
    """Return ``z @ weight`` for samples ``[..., R, inputs]`` and weights ``[R, inputs, outputs]``."""
    return (z.unsqueeze(-2) @ weight).squeeze(-2)


def second(w, z):
    return bits(product(z, w["weight"]) + w["bias"])


def f(x):
    """Return an f of three or four variables that is neither affine nor separable."""
    k = torch.arange(1.0, x.shape[-1] + 1, dtype=x.dtype)
    return (1.3 * x[..., 0] + x[..., 1] - 0.7 * x[..., 2] - 0.4).sin() + (k * x).sum(-1).cos() * x[..., -1]


class Problem(NamedTuple):
    q: Layers
    points: Tensor
    mass: Tensor

    def exact(self):
        """Return the exact gradient in all weights, flat."""
        own = list(parameters(self.q).values())
        found = torch.autograd.grad((self.mass * f(self.points)).sum(), own, retain_graph=True)
        return torch.cat([g.flatten() for g in found])


def two_of_bits():
    w = {"logits": leaf(0.4, -0.9), "weight": leaf([0.8, -1.1], [-0.5, 1.4]), "bias": leaf(-0.3, 0.6)}
    q = Layers(w, [lambda w: bits(w["logits"]), second])
    x = outcomes(4)
    return Problem(q, x, q.log_prob(x).exp())


def normal_then_bits():
    w = {"loc": leaf(0.3), "scale": leaf(0.8), "weight": leaf([0.8, -1.1]), "bias": leaf(-0.3, 0.6)}
    q = Layers(w, [lambda w: Independent(Normal(w["loc"], w["scale"], validate_args=False), 1), second])
    nodes, mass = hermite(40)
    z = (w["loc"] + w["scale"] * nodes).repeat_interleave(4, 0)
    y = outcomes(2).repeat(40, 1)
    return Problem(q, torch.cat([z, y], 1), mass.repeat_interleave(4) * q.second(z).log_prob(y).exp())


FAMILIES = {two_of_bits: (Bernoulli, Bernoulli), normal_then_bits: (Normal, Bernoulli)}


def gradients(estimator, q, count, seed=1):
    """Return one gradient for each row in all weights, ``[count, size]``; what the estimator learns is untrained."""
    state = estimator.init(q, seeded(5))
    r = rows(q, 1 if estimator.deterministic else count)
    loss = estimator(f, r, seeded(seed), None if state is None else state.requires_grad_(False))
    found = torch.autograd.grad(loss.sum(), list(parameters(r).values()), materialize_grads=True)
    return torch.cat([g.flatten(1) for g in found], 1)


def pairs(families):
    """Yield every pair of the catalogue whose estimators serve the families of two layers, as ``Nested``."""
    for outer, inner in itertools.product(NAMES, NAMES):
        try:
            pair = Nested(outer, inner)
        except Refusal:  # one of them needs a Bound
            continue
        if not pair.refuses_layers(families):
            yield pair


def scores(problem, count, unbiased=True):
    """Yield each pair and its largest z-score, or the ``Refusal`` that it raises."""
    made = problem()
    exact = made.exact()
    for pair in pairs(FAMILIES[problem]):
        if pair.unbiased != unbiased:
            continue
        try:
            g = gradients(pair, made.q, count)
        except Refusal as no:
            yield pair, no
            continue
        error = g.std(0, correction=int(len(g) > 1)) / math.sqrt(len(g))
        yield pair, ((g.mean(0) - exact).abs() / error.clamp_min(1e-10)).max().item()


def main(count=20_000):
    warnings.simplefilter("ignore")
    failed = False
    for problem, unbiased in itertools.product(FAMILIES, (True, False)):
        found = list(scores(problem, count, unbiased))
        z = {pair: score for pair, score in found if not isinstance(score, Refusal)}
        limit = z_limit(sum(2 * problem().exact().numel() for _ in z))
        beyond = [pair for pair, score in z.items() if score > limit]
        if unbiased:
            failed |= bool(beyond)
            print(f"{problem.__name__}: {len(z)} unbiased pairs, largest |z| {max(z.values()):.1f}, limit {limit:.1f}")
            print(*(f"  {pair!r}: {z[pair]:.1f}" for pair in beyond), sep="\n", end="")
        else:
            print(f"{problem.__name__}: {len(z)} biased pairs, {len(beyond)} of them seen at {count} replicates")
        for pair, no in found:
            if isinstance(no, Refusal):
                print(f"  refused: {pair!r}: {no}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
