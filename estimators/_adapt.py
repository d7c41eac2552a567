"""One step of learning for an estimator's state."""

import warnings

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution
from torch.nn import Parameter
from torch.optim import Optimizer

from estimators._first_order import differentiated_in_state_only
from estimators._integrand import Integrand
from estimators._parameters import parameters
from estimators._protocol import Estimator, State, at_least_float32


@torch.enable_grad()
def adapt(
    estimator: Estimator,
    f: Integrand,
    q: Distribution,
    state: State,
    optimizer: Optimizer | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Train an estimator's state by one optimizer step, which lowers the second moment of the estimator's gradient.

    A state holds what an estimator has learned. The step changes the parameters of the state. Then ``state.update``
    changes its buffers: moving averages of the values that the estimator returned.

    The estimator is unbiased for every state, so a smaller second moment means a smaller variance (Ruiz, Titsias & Blei
    2016, section 3; Tucker et al. 2017, section 3.2). The scale of f does not matter, because the step is taken for f
    divided by ``state.unit``. ``state.unit`` is the next power of two above the mean distance of f's values from their
    mean. If the gradient in any parameter of the state is not finite, the optimizer gets gradients of 0 for all
    parameters, and the state stays usable. On a CPU, adapt then warns that nothing was learned. On a GPU there is no
    warning, because the CPU would have to wait for the numbers.

    Args:
        estimator: an estimator that learns, one with ``needs_state``.
        f: the integrand, ``[..., *batch, *event] -> [..., *batch]``.
        q: the distribution, batch shape ``[*batch]``. At least one of its parameters must require gradients. The
            ``grad`` of these parameters does not change.
        state: the state that ``estimator.init(q)`` returned.
        optimizer: an optimizer of ``state.parameters()``; None is enough if the state has only buffers.
        generator: source of all noise; torch's global generator if None.

    Returns:
        The second moment of the gradient with respect to the tensors from which q was made, summed over coordinates
        and averaged over the batch: a scalar without a graph.

    Raises:
        ValueError: the state has parameters and ``optimizer`` is None; no parameter of q requires a gradient; a
            parameter of q requires a gradient, but gets none; or ``torch.inference_mode`` is active.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError("adapt needs gradients, and torch.inference_mode records none. Call adapt outside of it.")
    learned = [p for p in state.parameters() if p.requires_grad]
    if learned and optimizer is None:
        raise ValueError(
            f"{estimator!r} learns {len(learned)} tensors, but adapt got no optimizer. "
            "Pass torch.optim.Adam(state.parameters())."
        )
    own = {name: p for name, p in parameters(q).items() if p.requires_grad}
    if not own:
        raise ValueError(
            f"adapt needs a q whose parameters require gradients (got a {type(q).__name__} without). "
            "Call requires_grad_() on them."
        )
    value = estimator(f, q, generator, state)
    with differentiated_in_state_only():
        gradients = torch.autograd.grad(value.sum(), list(own.values()), create_graph=bool(learned), allow_unused=True)
    moment = value.new_zeros(())
    for name, gradient in zip(own, gradients, strict=True):
        if gradient is None:  # the attributes of Beta and MultivariateNormal are copies
            raise ValueError(
                f"No gradient arrives at {name}: {type(q).__name__} computes with a copy of it. Pass rows(q, 1)."
            )
        square = gradient.to(at_least_float32(gradient.dtype)).square()  # half precision ends at 65,504
        moment = moment + square.sum() / max(value.numel(), 1)
    slopes = torch.autograd.grad(moment, learned, materialize_grads=True) if learned else ()
    state.update(value.detach())
    if optimizer is not None and learned:
        finite = torch.stack([slope.isfinite().all() for slope in slopes]).all()
        if finite.is_cpu and not finite:
            cause = "the elements of its gradient are" if value.isfinite().all() else "the values of f are"
            warnings.warn(
                f"{estimator!r} has learned nothing in this step of adapt, as {cause} not all finite. Its state stays "
                "usable.",
                stacklevel=3,
            )
        _step(state, optimizer, dict(zip(learned, slopes, strict=True)), finite)
    return moment.detach()


def _step(state: State, optimizer: Optimizer, slopes: dict[Parameter, Tensor], finite: Tensor) -> None:
    """Take the optimizer step for f divided by its unit: an optimizer's steps have a size of their own.

    ``slopes`` are the gradients of the parameters, and ``finite`` says whether all of them are finite.
    """
    unit, named = state.unit, dict(state.named_parameters())
    scales = {named[name]: unit for name in state.in_units_of_f if named[name] in slopes}
    known = (state.deviation > 0) | (state.updates == 0)  # a state of one's own may keep no statistics
    usable = known & finite
    for parameter, slope in slopes.items():
        parameter.grad = torch.where(usable, slope / unit * (scales.get(parameter, 1) / unit), 0).to(parameter.dtype)
    with torch.no_grad():
        for parameter, scale in scales.items():
            parameter.div_(scale)
        optimizer.step()
        for parameter, scale in scales.items():
            parameter.mul_(scale)
