import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical, Poisson

from estimators import (
    RLOO,
    Enumeration,
    GumbelSoftmax,
    InvalidParameter,
    NotDifferentiable,
    Refusal,
    Reparameterization,
    ScoreFunction,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    UnsupportedFamily,
    aliases,
    catalogue,
    command_line_name,
)
from tests.problems import t

GS, STGS = GumbelSoftmax, StraightThroughGumbelSoftmax

PARAMETERS = [
    (lambda: RLOO(n=1), "RLOO needs n >= 2 (got n=1): a leave-one-out baseline needs another sample. "
     "Use ScoreFunction(n=1) or RLOO(n=2)."),
    (lambda: RLOO(n=2.5), "RLOO needs a whole number n (got n=2.5, of type float). Use RLOO(n=2)."),
    (lambda: RLOO(n=True), "RLOO needs a whole number n (got n=True, of type bool). Use RLOO(n=2)."),
    (lambda: RLOO(n="4"), "RLOO needs a whole number n (got n='4', of type str). Use RLOO(n=2)."),
    (lambda: ScoreFunction(n=0), "ScoreFunction needs n >= 1 (got n=0). Use ScoreFunction(n=1)."),
    (lambda: ScoreFunction(baseline="optimal"), "ScoreFunction needs n >= 2 (got n=1) for the optimal baseline, which "
     "the other samples estimate. Use ScoreFunction(n=2, baseline='optimal') or ScoreFunction()."),
    (lambda: Reparameterization(n=0), "Reparameterization needs n >= 1 (got n=0). Use Reparameterization(n=1)."),
    (lambda: StraightThrough(n=-3), "StraightThrough needs n >= 1 (got n=-3). Use StraightThrough(n=1)."),
    (lambda: GS(n=None), "GumbelSoftmax needs a whole number n (got n=None, of type NoneType). "
     "Use GumbelSoftmax(n=1)."),
    (lambda: STGS(n=1.0), "StraightThroughGumbelSoftmax needs a whole number n (got n=1.0, of type float). "
     "Use StraightThroughGumbelSoftmax(n=1)."),
    *(
        (lambda bad=bad, cls=cls: cls(temperature=bad), f"{cls.__name__} needs temperature > 0 and finite "
         f"(got temperature={bad!r}{kind}). Use {cls.__name__}(temperature=1.0).")
        for bad, kind in ((-1, ""), (0, ""), (0.0, ""), (math.nan, ""), (math.inf, ""), (True, ", of type bool"),
                          ("1", ", of type str"), (None, ", of type NoneType"))
        for cls in (GS, STGS)
    ),
    *(
        (lambda bad=bad: ScoreFunction(baseline=bad), "ScoreFunction needs a baseline that is a finite number, "
         f"'moving-average' or 'optimal' (got baseline={bad!r}{kind}). Use ScoreFunction(baseline=0.0).")
        for bad, kind in (("foo", ""), (True, ", of type bool"), (None, ", of type NoneType"), (math.nan, ""),
                          (math.inf, ""))
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "sentence"), PARAMETERS, ids=[sentence[:60] for _, sentence in PARAMETERS])
def test_parameters(make, sentence):
    with pytest.raises(InvalidParameter) as refusal:
        make()
    assert str(refusal.value) == sentence


NORMAL, BITS, HOT = Normal(t(0.0), t(1.0)), Bernoulli(t(0.5)), OneHotCategorical(t(0.5, 0.5))
INTEGER, COUNT = Categorical(t(0.5, 0.5)), Poisson(t(1.0))
FAMILIES = [
    (StraightThrough(), NORMAL, "StraightThrough(n=1) serves Bernoulli or OneHotCategorical, and q is Normal. "
     "Use Reparameterization, ScoreFunction or RLOO."),
    (StraightThrough(), Independent(NORMAL, 1), "StraightThrough(n=1) serves Bernoulli or OneHotCategorical, and q is "
     "Normal. Use Reparameterization, ScoreFunction or RLOO."),
    (GS(), COUNT, "GumbelSoftmax(n=1, temperature=1.0) serves Bernoulli or OneHotCategorical, and q is Poisson. "
     "Use ScoreFunction or RLOO."),
    (STGS(), INTEGER, "StraightThroughGumbelSoftmax(n=1, temperature=1.0) needs one-hot samples, and q is an integer "
     "Categorical. Use OneHotCategorical with the same logits."),
    (Enumeration(), COUNT, "Enumeration() serves Bernoulli or OneHotCategorical or Categorical or TokenSequence, and "
     "q is Poisson. Use ScoreFunction or RLOO."),
    (Reparameterization(), BITS, "Reparameterization needs samples that are differentiable in q's parameters, and "
     "Bernoulli has none (torch's has_rsample is False). Use ScoreFunction, RLOO or, for Bernoulli and "
     "OneHotCategorical, GumbelSoftmax."),
]  # fmt: skip


@pytest.mark.parametrize(("estimator", "q", "sentence"), FAMILIES, ids=[s[:70] for *_, s in FAMILIES])
def test_families(estimator, q, sentence):
    with pytest.raises(UnsupportedFamily) as refusal:
        estimator(torch.sin, q)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("estimator", [StraightThrough(), GS(), STGS()], ids=repr)
def test_black_boxes(estimator):
    q = Bernoulli(logits=t(0.5).requires_grad_())
    with pytest.raises(NotDifferentiable) as refusal:
        estimator(lambda x: (x > 0.5).double(), q)
    assert str(refusal.value) == (
        f"{estimator!r} needs df/dx, and f(x) does not depend on x differentiably. "
        "Use ScoreFunction or RLOO, which only evaluate f."
    )


@pytest.mark.parametrize("kind", [InvalidParameter, UnsupportedFamily, NotDifferentiable])
def test_every_refusal_is_a_value_error(kind):
    assert issubclass(kind, Refusal)
    assert issubclass(kind, ValueError)


def test_estimators_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        RLOO().n = 3


def test_names():
    assert {"rloo", "score-function", "straight-through-gumbel-softmax", "enumeration"} <= catalogue().keys()
    assert aliases()["reinforce"] == "score-function"
    assert command_line_name(type("MeasureValued", (), {})) == "measure-valued"
    assert command_line_name(type("RLOO", (), {})) == "rloo"


def test_names_and_aliases_do_not_clash():
    listed = [alias for cls in catalogue().values() for alias in cls.aliases]
    assert len(listed) == len(set(listed))
    assert not set(listed) & catalogue().keys()


@pytest.mark.parametrize("cls", catalogue().values(), ids=lambda cls: cls.__name__)
def test_every_estimator_says_where_it_comes_from(cls):
    assert cls.reference
    assert "Reference:" in cls.__doc__
    assert "Cost:" in cls.__doc__
