"""The lines to paste into a training loop, for an estimator and the kind of objective."""

from dataclasses import fields

import torch

from estimators import Estimator
from estimators import __all__ as public


def lines_for(
    estimator: Estimator,
    *,
    bound: bool = False,
    particles: int | None = None,
    maximise: bool = False,
    learns: bool | None,
) -> str:
    """Return Python code that trains with an estimator: imports, the lines before the loop, and the lines of a step.

    The code uses the names ``theta`` (a list of tensors), ``q`` (a function that makes the distribution from theta),
    ``f``, and ``steps``. For a bound, ``log_joint`` takes the place of ``f``.

    Args:
        estimator: the estimator.
        bound: whether the integrand is a ``Bound``.
        particles: number of particles of the bound; None without such an axis.
        maximise: whether training maximises the value. A bound is always maximised.
        learns: None if the estimator has no state, True if its state has parameters, False if it has only averages.
    """
    cls, has_home = type(estimator), type(estimator).__name__ in public
    names = sorted({*([cls.__name__] if has_home else []), *(["Bound"] if bound else []), *_helpers(learns)})
    imports = ["import torch", *([f"from estimators import {', '.join(names)}"] if names else [])]
    if not has_home:
        imports.append(f"from {_home(cls)} import {cls.__name__}")
    before = [f"estimator = {spelled(estimator)}", "optimizer = torch.optim.Adam(theta, lr=1e-3)"]
    integrand = _integrand("distribution", bound, particles)
    step = ["distribution = q(theta)"]
    call = f"estimator({integrand}, distribution)"
    if learns is not None:
        before.append("state = estimator.init(q(theta))")
        call = f"estimator({integrand}, distribution, state=state)"
    if learns:
        before.append("learner = torch.optim.Adam(state.parameters(), lr=1e-2)")
        on_copies = _integrand("copies", bound, particles)
        step += ["copies = rows(distribution, 1)", f"adapt(estimator, {on_copies}, copies, state, learner)"]
    step += [f"value = {call}", "optimizer.zero_grad()"]
    step += ["(-value.mean()).backward()" if bound or maximise else "value.mean().backward()", "optimizer.step()"]
    if learns is False:
        step.append("state.update(value.detach())")
    body = "\n".join(f"    {line}" for line in step)
    return "\n".join([*imports, "", *before, "for _ in range(steps):", body]) + "\n"


def spelled(estimator: Estimator) -> str:
    """Return Python code that creates an estimator, such as ``RLOO(n=4)``: n, and the fields not at their defaults."""
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


def _integrand(q: str, bound: bool, particles: int | None) -> str:
    """Return the expression for the integrand of a distribution with this name."""
    if not bound:
        return "f"
    return f"Bound(log_joint, {q})" if particles is None else f"Bound(log_joint, {q}, {particles})"


def _helpers(learns: bool | None) -> list[str]:
    return ["adapt", "rows"] if learns else []


def _home(cls: type) -> str:
    return cls.__module__.rpartition(".")[2]
