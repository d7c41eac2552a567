"""The protocol: what an estimator is, what it learns, and the checks of every call."""

import abc
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Size, Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, OneHotCategorical

from estimators._fields import PlainFields
from estimators._half_precision import widened
from estimators._integrand import Checked, CheckedFunction, Integrand, article
from estimators._laws import has_law, has_path, inner
from estimators._parameters import first_parameter
from estimators._refusals import InvalidIntegrand, InvalidLoss, InvalidParameter, Refusal, UnsupportedFamily
from estimators._transforms import rows_differ, transformed


class State(nn.Module):
    """What an estimator has learned, as tensors outside the estimator, because an estimator's fields never change.

    ``Estimator.init`` makes a state, and a call of the estimator gets it as the argument ``state``. The function
    ``adapt`` trains the parameters of the state. The method ``update`` changes the buffers. ``update`` is called after
    the estimator and never inside it, so that a state never depends on the samples of the call that uses it. Three
    buffers, all scalars, describe the values of the integrand so far:

    - ``mean``: the moving average of the values, 0 before the first update;
    - ``deviation``: the moving average of the absolute distances of the values from ``mean``, 0 before the first
      update;
    - ``updates``: the number of updates.

    Args:
        like: a tensor of q. The buffers have its device, and its dtype or float32 if that is wider. If None, they are
            float32 on the CPU.
    """

    decay: ClassVar[float] = 0.9
    """Largest weight of the past in a moving average: update t gives its values the weight max(1/t, 1 - decay)."""
    in_units_of_f: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters that double if f doubles. ``adapt`` trains these parameters divided by ``unit``."""
    inputs: int | None = None
    """Number of inputs of the state's network, which q may determine; None if the state fits every q."""
    mean: Tensor
    deviation: Tensor
    updates: Tensor

    def __init__(self, like: Tensor | None = None) -> None:
        super().__init__()
        zero = torch.zeros(()) if like is None else like.detach().new_zeros((), dtype=at_least_float32(like.dtype))
        self.register_buffer("mean", zero)
        self.register_buffer("deviation", zero.clone())
        self.register_buffer("updates", zero.to(torch.int64))

    def update(self, value: Tensor | float) -> None:
        """Update the buffers with the value that a call of the estimator returned.

        Args:
            value: what the call returned, an estimate of E_q[f]: a tensor of any shape, or a number. If your loss is
                ``-value``, pass ``value``, not the loss. Only the numbers are read, without any graph. Elements that
                are not finite are left out; if no element is finite, nothing changes.
        """
        value = value.detach() if isinstance(value, Tensor) else self.mean.new_tensor(value)
        value = value.to(at_least_float32(value.dtype))
        finite = value.isfinite()
        count = finite.sum()
        level = torch.where(finite, value, 0).sum() / count.clamp(min=1)
        centre = torch.where(self.updates == 0, level, self.mean)
        distance = torch.where(finite, value - centre, 0).abs().sum() / count.clamp(min=1)
        self.updates = self.updates + (count > 0)
        weight = (1 / self.updates.clamp(min=1).to(level.dtype)).clamp(min=1 - self.decay) * (count > 0)
        self.mean = self.mean + (level - self.mean) * weight
        self.deviation = self.deviation + (distance - self.deviation) * weight

    @property
    def unit(self) -> Tensor:
        """The scale of f for learning: the next power of two above ``deviation``, a scalar; 1 if ``deviation`` is 0."""
        return torch.where(self.deviation > 0, self.deviation / torch.frexp(self.deviation).mantissa, 1)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the wider of ``dtype`` and float32, in which running statistics and learned parameters are kept."""
    return torch.promote_types(dtype, torch.float32)


class Estimator(PlainFields, abc.ABC):
    """A Monte Carlo estimator of the gradient of E_{x~q}[f(x)] with respect to q's parameters.

    Subclasses are frozen dataclasses of numbers, strings and tuples; two of them with one repr are the same estimator.
    Class attributes such as ``unbiased`` declare facts about the estimator. A fact that depends on the fields is a
    property.
    """

    unbiased: bool = True
    """Whether the expected gradient is exactly the gradient of E_q[f]."""
    gradient_scale: float | None = None
    """The expected gradient, as a multiple of the gradient of E_q[f]; None if it is no known multiple, or 1."""
    linear_in_f: bool = True
    """Whether a multiple of f has that multiple of the gradient, also if the estimator has learned from it."""
    value_unbiased: bool = True
    """Whether the value that a call returns is an unbiased estimate of E_q[f]."""
    deterministic: bool = False
    """Whether the gradient has no noise, so that the generator changes nothing."""
    couples_batch: bool = False
    """Whether the estimate of one batch element uses the samples of others, as a mean over the batch does."""
    families: tuple[type[Distribution], ...] | None = None
    """Supported families of q, without ``Independent``; None if only the class's docstring states the conditions."""
    needs_df: bool = False
    """Whether the estimator uses df/dx."""
    needs_relaxed_f: bool = False
    """Whether the estimator evaluates f off the support of q."""
    needs_bound: bool = False
    """Whether the integrand must be a ``Bound``, whose log-weights the estimator uses."""
    needs_costs: bool = False
    """Whether the integrand must be a ``Return``, whose costs the estimator uses one by one."""
    needs_set: bool = False
    """Whether the integrand must be a ``SetFunction``, whose values the estimator puts together into other sets."""
    needs_state: bool = False
    """Whether the estimator learns: it then has a state, which ``init`` makes and ``adapt`` trains."""
    command_name: ClassVar[str] = ""
    """Name on the command line; if empty, it is derived from the class's name."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names on the command line."""
    reference: ClassVar[str] = ""
    """Source of the method, in a few words."""

    def __new__(cls, *args: Any, **_fields: Any) -> Self:
        """Refuse f and q in the place of fields: an estimator is made first, and called then."""
        given = [value for value in args if not isinstance(value, Estimator)]  # Nested takes estimators
        if any(callable(value) or isinstance(value, Distribution) for value in given):
            name = cls.__name__
            raise InvalidParameter(f"{name} takes f and q in a second call: write {name}()(f, q), not {name}(f, q).")
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the arguments, the values of f and the loss in every call of a subclass."""
        super().__init_subclass__(**kwargs)
        if cls.__call__ is not Estimator.__call__ and not hasattr(cls.__call__, "is_checked"):
            cls.__call__ = _checked_call(cls.__call__)  # type: ignore[method-assign]

    @abc.abstractmethod
    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the value: an estimate of E_q[f] whose gradient at q's parameters is the estimate of the gradient.

        To maximise E_q[f], the loss of a training step is ``-value.mean()``; to minimise it, ``value.mean()``.

        Args:
            f: the integrand, ``[..., *batch, *event] -> [..., *batch]``.
            q: the distribution, batch shape ``[*batch]``, event shape ``[*event]``.
            generator: source of all noise; torch's global generator if None.
            state: what the estimator has learned, from ``init``; None if the estimator learns nothing or is untrained.

        Returns:
            A tensor, ``[*batch]``: one estimate of E_q[f] for each batch element. In the backward pass, tensors that f
            closes over, such as a decoder's weights, get the gradient of f at the samples.

        Raises:
            Refusal: this estimator cannot work with q or f.
        """

    def init(self, q: Distribution, generator: Generator | None = None) -> State | None:
        """Return an untrained state for q, in which the estimator keeps what it learns; None if it learns nothing.

        If the state holds random initial weights, they are drawn from ``generator``; from torch's global generator if
        it is None.
        """
        return None

    def refuses(self, family: type[Distribution]) -> str | None:
        """Return the reason why this estimator does not support a family of distributions; None if it supports it."""
        if self.families is None or has_law(family, *self.families):
            return None
        if parent := next((parent for parent in self.families if issubclass(family, parent)), None):
            return own_law(self, family, parent)
        if issubclass(family, Categorical) and OneHotCategorical in self.families:
            return (
                f"{self!r} needs one-hot samples, and q is an integer Categorical. "
                "Use OneHotCategorical with the same logits."
            )
        served = " or ".join(f.__name__ for f in self.families)
        return f"{self!r} serves {served}, and q is {family.__name__}. {_advice(family)}"

    def refuses_particles(self, particles: int | None) -> str | None:
        """Return the reason why this estimator does not support a ``Bound`` of K particles; None if it supports it.

        ``particles`` is K. It is None for the evidence lower bound, which has no axis of particles.
        """
        return None

    def refuses_layers(self, families: Sequence[type[Distribution]]) -> str | None:
        """Return the reason why this estimator does not support a q of several layers; None if it does.

        ``families`` are the classes of the distributions of the layers, the first layer first. The method of the base
        class returns None; a subclass may override it.
        """
        return None

    def check(self, q: Distribution) -> None:
        """Raise ``UnsupportedFamily`` if this estimator does not support the family of q."""
        if reason := self.refuses(type(inner(q))):
            raise UnsupportedFamily(reason)

    def coefficients(self, fx: Tensor) -> Tensor | None:
        """Return the factors of the scores of the samples in the gradient, ``[n, *batch]``; None if unknown.

        ``g = sum_k c_k grad log q(x_k)``,  c the factors, x_1 ... x_n from q

        If an estimator has this form and returns its factors, its gradients can be computed from a table of scores,
        without autograd. The benchmark does so if q has few possible samples. A factor includes 1/n, and has no graph.

        Args:
            fx: the values of f at the n samples, ``[n, *batch]``.
        """
        return None

    def points(self, q: Distribution) -> int:
        """Return the number of sample points that one call holds in memory at once, per batch element."""
        return int(getattr(self, "n", 1))


UNCOMPILED = (
    "torch cannot make an estimator part of a graph. Leave out fullgraph=True: torch.compile then compiles what comes "
    "before and after the estimator, and f."
)


def _checked_call(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return an estimator's ``__call__`` that checks its arguments, every value of f, and the type of the loss."""

    @functools.wraps(call)
    def checked(self: Estimator, f: Integrand, q: Distribution, *args: Any, **kwargs: Any) -> Tensor:
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break(msg=UNCOMPILED)
        if transformed():
            _refuse_one_generator(self, *args, **kwargs)
        f, wide = _checked_integrand(self, f, q), widened(q)
        if wide is not q or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            call_wide = _at_full_precision(call, q, wide)
            loss = call_wide(self, f, wide, *args, **kwargs)
        else:
            loss = call(self, f, q, *args, **kwargs)
        if not isinstance(loss, Tensor):
            raise InvalidLoss(f"{self!r} returned {article(loss)} instead of a loss. Add a `return` to its __call__.")
        return loss

    checked.is_checked = True  # type: ignore[attr-defined]
    return checked


def _refuse_one_generator(estimator: Estimator, generator: Generator | None = None, *_: Any, **__: Any) -> None:
    """Raise ``Refusal`` if a call under vmap has a generator, although every row is to have its own noise."""
    if generator is not None and not estimator.deterministic and rows_differ():
        raise Refusal(
            f"{estimator!r} got a generator, whose numbers vmap makes once for all rows, although it "
            "has randomness='different'. Leave the generator out, and seed torch's own with torch.manual_seed."
        )


def _at_full_precision(call: Callable[..., Tensor], q: Distribution, wide: Distribution) -> Callable[..., Tensor]:
    """Return an estimator's ``__call__`` on ``wide``, q in float32 at least, without the caller's ``torch.autocast``.

    Half precision has no numbers between 0.996 and 1, so noise, probabilities and distribution functions would follow
    another law. f alone is called as the caller would: with samples in q's dtype, under the caller's autocast.
    """
    own = first_parameter(q)
    device = "cuda" if own.is_cuda else "cpu"
    autocast = torch.autocast(device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device))

    def as_called(f: Integrand) -> Integrand:
        def at(x: Tensor, /) -> Tensor:
            with autocast:
                return f(x.to(own.dtype) if x.is_floating_point() and wide is not q else x)

        at.__wrapped__ = f  # type: ignore[attr-defined]
        return at

    def at_full_precision(estimator: Estimator, f: Checked, *args: Any, **kwargs: Any) -> Tensor:
        with torch.autocast(device, enabled=False):
            return call(estimator, f.through(as_called, wide if f.q is q else widened(f.q)), *args, **kwargs)

    return at_full_precision


def _checked_integrand(estimator: Estimator, f: Integrand, q: Distribution) -> Checked:
    """Return f, made so that it checks its own values; raise ``Refusal`` if f or q is not what its place demands."""
    if not isinstance(q, Distribution):
        given = "f and q in the wrong order" if isinstance(f, Distribution) else f"{article(q)} as q"
        raise Refusal(
            f"{estimator!r} is called with a function f and a torch distribution q, in this order (got {given}). "
            "Use, for example, Normal(loc, scale) or Bernoulli(logits=logits) as q."
        )
    if not callable(f):
        raise InvalidIntegrand(f"{estimator!r} needs a function f of samples of q (got {article(f)}). Pass a callable.")
    if not isinstance(f, Checked):
        return CheckedFunction(f, q)
    if f.q is None:
        return f.through(lambda g: g, q)
    if f.q is q or (f.q.event_shape == q.event_shape and _expands(f.q.batch_shape, q.batch_shape)):
        return f
    kind = "event" if f.q.event_shape != q.event_shape else "batch"
    own, other = (list(getattr(each, f"{kind}_shape")) for each in (f.q, q))
    raise InvalidIntegrand(
        f"{type(f).__name__} got a q of {kind} shape {own}, and {estimator!r} a q of {kind} shape {other}. "
        "Use one q for both."
    )


def _expands(shape: Size, to: Size) -> bool:
    """Return whether a tensor of this shape can be expanded to the shape ``to``."""
    own = (1,) * (len(to) - len(shape)) + tuple(shape)
    return len(own) == len(to) and all(a in (1, b) for a, b in zip(own, to, strict=True))


def own_law(estimator: Estimator, family: type[Distribution], parent: type[Distribution]) -> str:
    """Return the reason why an estimator for ``parent`` does not support ``family``.

    ``family`` is a subclass of ``parent`` with its own sampler or density, so the formulas for ``parent`` do not hold.
    """
    others = "Reparameterization, ScoreFunction or RLOO" if has_path(family) else "ScoreFunction or RLOO"
    return (
        f"{estimator!r} uses formulas of {parent.__name__}, and q is {family.__name__}, a subclass with its own "
        f"sampler or density. Use {others}, which call its methods."
    )


def _advice(family: type[Distribution]) -> str:
    if issubclass(family, Bernoulli | OneHotCategorical):
        return "Use ScoreFunction, RLOO or StraightThrough."
    if family.has_rsample:
        return "Use Reparameterization, ScoreFunction or RLOO."
    return "Use ScoreFunction or RLOO."


def command_line_name(cls: type) -> str:
    """Return the command-line name of a class: its ``command_name``, or else its name in lower case with hyphens.

    Examples: ``MeasureValued`` becomes ``measure-valued``, and ``RLOO`` becomes ``rloo``.
    """
    given: str = getattr(cls, "command_name", "")
    return given or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()
