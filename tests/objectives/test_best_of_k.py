"""The objective best-of-k against order statistics and sums written out by hand."""

import itertools
import math

import pytest
import torch

from bench.objectives import BestOfK

HAND = {
    "best": max,
    "pass": lambda *r: float(max(r) >= 1),
    "cvar": lambda *r: sum(sorted(r)[: (len(r) + 1) // 2]) / ((len(r) + 1) // 2),
    "risk": lambda *r: -math.log(sum(math.exp(-3 * x) for x in r) / len(r)) / 3,
    "bound": lambda *r: math.log(sum(map(math.exp, r)) / len(r)),
}


@pytest.mark.parametrize("of", HAND)
@pytest.mark.parametrize(("k", "classes"), [(2, 2), (3, 4)])
def test_the_exact_value_is_the_sum_over_all_sets(of, k, classes):
    problem = BestOfK(k=k, classes=classes, of=of, slope=1.3).build(torch.float64)
    p = torch.linspace(1.3, 0, classes, dtype=torch.float64).softmax(0).tolist()
    reward = [c / (classes - 1) for c in range(classes)]
    expected = sum(
        math.prod(p[c] for c in x) * HAND[of](*(reward[c] for c in x))
        for x in itertools.product(range(classes), repeat=k)
    )
    assert problem.exact(problem.theta).item() == pytest.approx(expected, rel=1e-13)


def test_the_best_has_the_law_of_the_largest_order_statistic():
    problem = BestOfK(k=4, classes=5).build(torch.float64)
    below = problem.theta["logits"].softmax(0).cumsum(0) ** 4
    mass = torch.diff(below, prepend=below.new_zeros(1))
    expected = (mass * torch.linspace(0, 1, 5, dtype=torch.float64)).sum()
    assert torch.allclose(problem.exact(problem.theta), expected, rtol=1e-13)
    gradients = [
        torch.autograd.grad(value, problem.theta["logits"])[0] for value in (problem.exact(problem.theta), expected)
    ]
    assert torch.allclose(*gradients, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"k": 0}, "k >= 1"),
        ({"of": "worst"}, "best, pass, cvar, risk or bound"),
        ({"k": 20}, r"8\^20 sets, and the limit is 65,536. Lower k or classes"),
        ({"slope": math.inf}, "slope"),
    ],
)
def test_bad_fields_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        BestOfK(**fields)
