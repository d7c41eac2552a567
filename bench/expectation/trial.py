"""Trial calls of q and f, from which the facts of an expectation are derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.objectives import Problem
from estimators import Bound, Refusal, draw, inner, parameters, rows

Function = Callable[..., Any]
"""A function that a user gave."""


def q_of(problem: Problem, called_with: str) -> Distribution:
    """Return the distribution q at theta, as the user's function ``problem.q`` makes it.

    ``called_with`` says in words what the function is called with, for messages.

    Raises:
        ValueError: the function fails or returns no distribution; two calls of it give different parameters; two draws
            with one seed differ; two calls of log q at the same samples differ; or q fails with a new first batch axis
            of length 2, for two copies of its parameters.
    """
    try:
        q: Any = problem.q(problem.theta)
    except Exception as error:
        raise ValueError(f"q fails: {said(error)}. q is called with {called_with}.") from error
    if not isinstance(q, Distribution):
        raise ValueError(f"q must return a torch distribution ({got(q)}).")
    again = parameters(problem.q(problem.theta))
    for name, t in parameters(q).items():
        if t.shape != again[name].shape or not torch.equal(t, again[name]):
            raise ValueError(
                f"q differs between two calls with one theta, in {name}: it draws random numbers, as dropout does in "
                "training mode. Call net.eval(), and draw other random numbers beforehand."
            )
    _refuse_rows(q)
    return q


def _refuse_rows(q: Distribution) -> None:
    """Raise ``ValueError`` if two rows of q fail, or two draws with one seed or two calls of the density differ."""
    r = rows(q, 2)
    try:
        x, again = (samples_of(r, 3) for _ in range(2))  # not 2: products of as many samples and rows may fit by chance
        twice = [r.log_prob(x) for _ in range(2)]
    except (Refusal, NotImplementedError):
        return  # found later, and said there
    except Exception as error:
        shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in parameters(r).items())
        use = (
            " Products must be batched, as in (z.unsqueeze(-2) @ w).squeeze(-2)." if type(error) is RuntimeError else ""
        )
        raise ValueError(
            f"q fails with two copies of its parameters, which have one more axis on the left ({shapes}): "
            f"{said(error)}.{use}"
        ) from error
    if not torch.equal(x, again):
        raise ValueError(
            f"{type(inner(q)).__name__} draws other samples from an equal generator: its draw must take all random "
            "numbers from the generator that it gets."
        )
    if not torch.equal(*twice):
        raise ValueError(
            "log q differs between two calls at the same samples: q's functions draw random numbers. Draw them "
            "beforehand, or let them be choices of q."
        )


def samples_of(q: Distribution, n: int = 2) -> Tensor:
    """Return n samples of q, ``[n, *batch, *event]``. Every call returns equal samples, because the seed is fixed."""
    return draw(q, n, Generator().manual_seed(0))


def f_of(problem: Problem, q: Distribution) -> Function:
    """Return the user's function: ``log_joint`` if the integrand of ``problem`` is a ``Bound``, else ``f``.

    A ``Bound`` is a lower bound on the log evidence, made from ``log_joint``. The integrand is made for this q, by
    ``problem.integrand(q)``.
    """
    f = problem.integrand(q)
    return f.log_joint if isinstance(f, Bound) else f


def name_of_f(problem: Problem, q: Distribution) -> str:
    """Return the name of the user's function: "log_joint" if the integrand of ``problem`` is a ``Bound``, else "f".

    A ``Bound`` is a lower bound on the log evidence, made from ``log_joint``. The integrand is made for this q, by
    ``problem.integrand(q)``.
    """
    return "log_joint" if isinstance(problem.integrand(q), Bound) else "f"


def value_shape(problem: Problem, q: Distribution) -> torch.Size:
    """Return the shape of what the user's function, ``f`` or ``log_joint``, returns for one sample of q.

    The shape is the batch shape of q, ``[*batch]``. If the integrand of ``problem`` is a ``Bound`` (a lower bound on
    the log evidence) of K particles, the shape is ``[*batch, K]``. One sample of q then consists of K particles, and
    ``log_joint`` returns a number for each.
    """
    f = problem.integrand(q)
    return torch.Size((*q.batch_shape, f.particles)) if isinstance(f, Bound) and f.particles else q.batch_shape


def said(error: Exception) -> str:
    """Return the type of an exception and the first line of its message: ``ValueError: got 3 axes``.

    A full stop at the end is left out.
    """
    return f"{type(error).__name__}: {str(error).splitlines()[0].rstrip('.') if str(error) else 'no message'}"


def got(value: Any) -> str:
    """Return the type of a wrong value in words, for a message: ``got None``, ``got a list of float, int``."""
    if value is None:
        return "got None"
    kind = type(value).__name__
    named = f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
    if not isinstance(value, Mapping | tuple | list):
        return f"got {named}"
    held = sorted({type(each).__name__ for each in (value.values() if isinstance(value, Mapping) else value)})
    return f"got {named} of {', '.join(held)}" if held else f"got an empty {kind}"
