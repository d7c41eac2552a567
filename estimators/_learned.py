"""The state given to a call of an estimator: its check, and a warning if it is always missing."""

import warnings
from typing import TypeVar

import torch
from torch import Generator
from torch.distributions import Distribution

from estimators._parameters import first_parameter, parameters
from estimators._protocol import Estimator, State, at_least_float32
from estimators._refusals import Refusal

S = TypeVar("S", bound=State)
_MISSED: dict[Estimator, int] = {}
"""Number of calls without a state, by estimator; counting ends with the warning."""


def checked_state(
    estimator: Estimator, state: State | None, kind: type[S], q: Distribution, inputs: int | None = None
) -> S | None:
    """Return the state with which an estimator was called, after checks; None if there was none.

    A state holds what an estimator has learned. An estimator that needs a state and never gets one learns nothing, so
    its second call without a state gives a warning. There is one warning for each estimator.

    Args:
        estimator: the estimator that is called.
        state: the state of the call, or None.
        kind: the class of the state that ``estimator.init`` makes.
        q: the distribution of the call. The state must have its dtype and device.
        inputs: number of inputs that the state's network needs for this q; it must equal ``state.inputs``. None if the
            state fits every q.

    Raises:
        Refusal: the state is of another class, or was made for a q of another size, dtype or device.
    """
    if state is None:
        _miss(estimator, q)
        return None
    use = f"Use {estimator!r}.init(q), which makes one for this q."
    if not isinstance(state, kind):
        came = f"a {type(state).__name__}"
        raise Refusal(f"{estimator!r} needs a state of class {kind.__name__} (got {came}). {use}")
    if inputs is not None and inputs != state.inputs:
        raise Refusal(f"{estimator!r} got a state made for {state.inputs} inputs, and this q has {inputs}. {use}")
    like, own = next(iter(parameters(q).values()), None), state.mean
    if like is not None and (own.dtype, own.device) != (at_least_float32(like.dtype), like.device):
        dtype = at_least_float32(like.dtype)
        raise Refusal(
            f"{estimator!r} got a state in {own.dtype} on {own.device}, and this q needs one in {dtype} on "
            f"{like.device}. Use state.to({str(like.device)!r}, {dtype}), or a new state."
        )
    return state


def _miss(estimator: Estimator, q: Distribution) -> None:
    """Count a call without a state, and warn at the second one."""
    if torch.compiler.is_compiling() or _MISSED.get(estimator, 0) > 1:
        return
    _MISSED[estimator] = _MISSED.get(estimator, 0) + 1
    if _MISSED[estimator] == 2:
        fresh = estimator.init(q, Generator(first_parameter(q).device).manual_seed(0))
        lines = _BY_UPDATE if fresh is None or not list(fresh.parameters()) else _BY_ADAPT
        text = f"{estimator!r} is called again and again without its state, so it learns nothing. Paste:\n{lines}"
        warnings.warn(text.replace("ESTIMATOR", repr(estimator)), UserWarning, stacklevel=5)


_BY_UPDATE = """\
    state = ESTIMATOR.init(q)  # once, before the loop
    value = ESTIMATOR(f, q, state=state)  # in every step
    state.update(value)  # after the step; the value itself, also if the loss is -value"""
_BY_ADAPT = """\
    state = ESTIMATOR.init(q); learner = torch.optim.Adam(state.parameters(), lr=0.01)  # once, before the loop
    adapt(ESTIMATOR, f, rows(q, 64), state, learner)  # before every step
    value = ESTIMATOR(f, q, state=state)  # in every step"""
