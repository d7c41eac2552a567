"""The lines to paste into a training loop, for an estimator and the kind of objective."""

from dataclasses import dataclass, fields
from typing import Any, Self

import torch

from bench.expectation import Expectation
from bench.objectives import Objective
from bench.planning.plugins import PREFIX
from estimators import Estimator
from estimators import __all__ as public

FORMS = {"module": "a module", "dict": "a dict of tensors that require gradients"}
"""What a comment says of an argument, by its form."""


@dataclass(frozen=True)
class Loop:
    """How a training loop writes its distribution, its integrand and its weights, as Python expressions.

    Args:
        yours: names that the loop must have before it begins, as text for a comment.
        weights: what the optimizer trains, such as ``theta.parameters()``.
        q: the distribution in a step, such as ``q(theta, *batch)``.
        f: the integrand in a step, such as ``lambda x: f(x, *batch)``; if ``bound``, the log-joint.
        before: lines at the beginning of a step, such as those that draw a minibatch.
        bound: whether the integrand is a ``Bound``.
        particles: number of particles of the bound; None if it has no axis of particles.
        maximise: whether training maximises f. A bound is always maximised.
    """

    yours: str = "theta (a list of tensors), q, f, steps"
    weights: str = "theta"
    q: str = "q(theta)"
    f: str = "f"
    before: tuple[str, ...] = ()
    bound: bool = False
    particles: int | None = None
    maximise: bool = False

    @classmethod
    def of(cls, objective: Objective) -> Self:
        """Return how a training loop writes the distribution, the integrand and the weights of an objective.

        The names in the expressions, such as theta, q and f, are for the user to define. For an ``Expectation``, the
        expressions also have its extra parameters and its minibatches, if there are any.
        """
        name = "log_joint" if objective.bound else "f"
        facts: dict[str, Any] = {name: getattr(objective, name) for name in ("bound", "particles", "maximise")}
        if not isinstance(objective, Expectation):
            return cls(f"theta (a list of tensors), q, {name}, steps", f=name, **facts)
        forms, before, batch = objective.forms, tuple[str, ...](), ""
        yours, weights, arguments = (
            f"theta ({FORMS[forms.theta]}), q, {name}, steps",
            _weights("theta", forms.theta),
            "x",
        )
        if forms.extra:
            yours += f", extra ({FORMS[forms.extra]})"
            weights, arguments = f"[*{weights}, *{_weights('extra', forms.extra)}]", "x, extra"
        if forms.batch_size:
            yours += ", data (a tuple of tensors)"
            chosen = f"chosen = torch.randint(len(data[0]), ({forms.batch_size},))"
            before, batch = (chosen, "batch = [t[chosen] for t in data]"), ", *batch"
        called = f"lambda x: {name}({arguments}{batch})" if forms.extra or batch else name
        return cls(yours, weights, f"q(theta{batch})", called, before, **facts)

    def integrand(self, q: str) -> str:
        """Return the Python expression for the integrand, in a loop in which the distribution has the name ``q``."""
        if not self.bound:
            return self.f
        return f"Bound({self.f}, {q})" if self.particles is None else f"Bound({self.f}, {q}, {self.particles})"


def _weights(name: str, form: str) -> str:
    return f"{name}.parameters()" if form == "module" else f"{name}.values()"


def lines_for(estimator: Estimator, loop: Loop, *, learns: bool | None) -> str:
    """Return Python code that trains with an estimator: imports, the lines before the loop, and the lines of a step.

    A comment in the code names what the user has to define, such as theta, q and f.

    Args:
        estimator: the estimator.
        loop: Python expressions for the distribution, the integrand and the weights (the parameters to train).
        learns: None if the estimator has no state, True if its state has parameters, False if it has only averages.
    """
    cls, has_home = type(estimator), type(estimator).__name__ in public
    names = [cls.__name__] * has_home + ["Bound"] * loop.bound + ["adapt", "rows"] * bool(learns)
    imports = ["import torch", *([f"from estimators import {', '.join(sorted(names))}"] if names else [])]
    if not has_home:
        file = cls.__module__.rpartition(".")[2]  # a file that a selector names is loaded under a name of ours
        imports.append(f"from {file if cls.__module__.startswith(PREFIX) else cls.__module__} import {cls.__name__}")
    before = [f"# yours: {loop.yours}", f"estimator = {spelled(estimator)}"]
    before.append(f"optimizer = torch.optim.Adam({loop.weights}, lr=1e-3)")
    step = [*loop.before, f"distribution = {loop.q}"]
    if learns is not None:
        before.append("state = None")
        step += ["if state is None:", "    state = estimator.init(distribution)"]
    if learns:
        step.append("    learner = torch.optim.Adam(state.parameters(), lr=1e-2)")
        step.append("copies = rows(distribution, 1)")
        step.append(f"adapt(estimator, {loop.integrand('copies')}, copies, state, learner)")
    given = f"{loop.integrand('distribution')}, distribution" + ("" if learns is None else ", state=state")
    step += [f"value = estimator({given})", "optimizer.zero_grad()"]
    step.append("(-value.mean()).backward()" if loop.bound or loop.maximise else "value.mean().backward()")
    step.append("optimizer.step()")
    if learns is False:
        step.append("state.update(value.detach())")
    body = "\n".join(f"    {line}" for line in step)
    return "\n".join([*imports, "", *before, "for _ in range(steps):", body]) + "\n"


def spelled(estimator: Estimator) -> str:
    """Return Python code that creates an estimator, such as ``RLOO(n=4)``.

    The code has n, and every other field that differs from its default.
    """
    shown = []
    for each in fields(estimator):  # type: ignore[arg-type]
        value = getattr(estimator, each.name)
        if each.init and (each.name == "n" or value != each.default):
            shown.append(f"{each.name}={value!r}")
    return f"{type(estimator).__name__}({', '.join(shown)})"


def learning(estimator: Estimator, q: torch.distributions.Distribution) -> bool | None:
    """Return whether an estimator's state has parameters that an optimizer trains; None if the estimator has no state.

    ``q`` is a distribution for which the state is made.
    """
    if not estimator.needs_state:
        return None
    state = estimator.init(q, torch.Generator().manual_seed(0))
    return None if state is None else bool(list(state.parameters()))
