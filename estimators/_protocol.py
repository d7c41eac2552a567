"""The protocol: what an estimator is, what it is called with, and the exceptions that it raises."""

import abc
import contextlib
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Generator, Size, Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, OneHotCategorical

from estimators._fields import PlainFields
from estimators._laws import closed as closed
from estimators._laws import has_law as has_law
from estimators._laws import has_path as has_path
from estimators._laws import inner as inner
from estimators._laws import law as law
from estimators._refusals import InvalidIntegrand as InvalidIntegrand
from estimators._refusals import InvalidLoss as InvalidLoss
from estimators._refusals import InvalidParameter as InvalidParameter
from estimators._refusals import NotDifferentiable as NotDifferentiable
from estimators._refusals import Refusal as Refusal
from estimators._refusals import UnsupportedFamily as UnsupportedFamily
from estimators._rows import first_parameter, widened
from estimators._transforms import is_differentiated, rows_differ, transformed, unwrapped


class Integrand(Protocol):
    """The integrand f: it maps ``[..., *batch, *event]`` to ``[..., *batch]``, for any number of leading axes.

    f must not change x in place, nor write over a tensor that it returned before. If the estimator does not use df/dx,
    the values of f may also be whole numbers or bools, and be held in a numpy array, in a list or, for a single point,
    in a Python number. If the estimator uses df/dx, the values must be a tensor that autograd can differentiate in x.
    """

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return f(x), ``[..., *batch]``, for points x, ``[..., *batch, *event]``."""


class State(nn.Module):
    """What an estimator has learned: tensors kept outside the estimator, because an estimator's fields never change.

    ``Estimator.init`` makes a state, and a call of the estimator gets it as the argument ``state``. The function
    ``adapt`` trains the parameters of the state. The method ``update`` changes the buffers after a call of the
    estimator, never during the call, so that no baseline contains its own sample. Three buffers, all scalars, describe
    the values of the integrand that were seen so far:

    - ``mean``: the moving average of the values, 0 before the first update;
    - ``deviation``: the moving average of the absolute distances of the values from ``mean``, 0 before the first
      update;
    - ``updates``: the number of updates.

    Args:
        like: a tensor of q. The buffers are on its device and have its dtype, but at least float32. If None, they are
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

    Subclasses are frozen dataclasses of numbers, strings and tuples; their repr is their identity. Class attributes
    such as ``unbiased`` declare facts about the estimator. A fact that depends on the fields is a property.
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
        """Return an untrained state for q, which will hold what the estimator learns; None if it learns nothing."""
        return None

    def refuses(self, family: type[Distribution]) -> str | None:
        """Return the reason why this estimator does not support a class of distributions; None if it does."""
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
        """Return the reason why this estimator does not support a ``Bound`` of K particles; None if it does.

        ``particles`` is K. It is None for the evidence lower bound, which has no axis of particles.
        """
        return None

    def refuses_layers(self, families: Sequence[type[Distribution]]) -> str | None:
        """Return the reason why this estimator does not support a ``Layers`` of these families; None if it does."""
        return None

    def check(self, q: Distribution) -> None:
        """Raise ``UnsupportedFamily`` if this estimator does not support the family of q."""
        if reason := self.refuses(type(inner(q))):
            raise UnsupportedFamily(reason)

    def coefficients(self, fx: Tensor) -> Tensor | None:
        """Return what the score of each sample is multiplied by in the gradient, ``[n, *batch]``; None if unknown.

        ``g = sum_k c_k grad log q(x_k)``,  c the coefficients, x_1 ... x_n from q

        An estimator of this form may give its coefficients, so that the harness can look up its gradients where q has
        few samples. A coefficient includes the factor 1/n, and has no graph.

        Args:
            fx: the values of f at the n samples, ``[n, *batch]``.
        """
        return None

    def points(self, q: Distribution) -> int:
        """Return the number of sample points that one call holds in memory at once, per batch element."""
        return int(getattr(self, "n", 1))


WIDE = frozenset((torch.float32, torch.float64))
"""The dtypes in which values of f are used as they come; others are converted."""


class Checked:
    """Base class of integrands that check their own values, made for samples of the distribution ``q``.

    Subclasses are ``Bound``, ``Return``, ``SetFunction`` and ``CheckedFunction``. An estimator that gets any other
    integrand wraps it in a ``CheckedFunction`` first. ``q`` is None in a ``Return`` or a ``SetFunction`` until an
    estimator is called with it.
    """

    __slots__ = ()
    q: Distribution

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return f(x), ``[..., *batch]``, for points x, ``[..., *batch, *event]``."""
        raise NotImplementedError

    def through(self, around: Callable[[Integrand], Integrand], q: Distribution) -> "Checked":
        """Return a copy for samples of ``q`` that evaluates the function ``around(f)`` in place of f.

        ``around`` maps a function to another one, such as f to 2 f. The copy checks the values of ``around(f)``.
        """
        raise NotImplementedError


class CheckedFunction(Checked):
    """A function that checks in every call what f did to its argument and what it returned.

    Args:
        f: the function.
        q: the distribution of the samples. Values that are not tensors of float32 or float64 are converted to the dtype
            of q, or to float32 if q has half precision.
        axes: number of event axes of the samples; if None, the number of event axes of q.
        name: what the messages call f.
        columns: whether f returns a row of numbers, not one number, for each sample.
    """

    __slots__ = ("axes", "columns", "f", "kept", "name", "q")

    def __init__(
        self, f: Integrand, q: Distribution, axes: int | None = None, name: str = "f", *, columns: bool = False
    ) -> None:
        self.f, self.q, self.name, self.columns = f, q, name, columns
        self.axes = len(q.event_shape) if axes is None else axes
        self.kept: Tensor | None = None  # the last values, of which the estimator may still hold a view

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return f(x), ``[...]``, in float32 or float64, one number for each point x, ``[..., *event]``.

        A change of x, or of the values that f returned last, is found by torch's version counter: torch counts how
        often a tensor or one of its views was changed in place. Under vmap the counter of the wrapped tensor is read.
        In inference mode nothing is counted.

        Raises:
            InvalidIntegrand: f changed x in place, wrote over the values of its last call, or returned nothing, no
                numbers or a wrong shape. Changes of x through numpy or ``x.data``, which torch does not count, are seen
                in the first calls of f only.
            NotDifferentiable: x is differentiated, and f returned whole numbers, bools or values outside torch.
        """
        sample, last = unwrapped(x) if transformed() else x, self.kept
        count = None if sample.is_inference() else sample._version
        last_count = None if last is None else last._version
        copy = x.detach().clone() if _is_new(self.f, x) else None  # torch does not count what numpy and x.data change
        points = x.shape[: -self.axes] if self.axes else x.shape
        try:
            fx = self.f(x)
        except Refusal:
            raise
        except Exception as error:
            if isinstance(error, RuntimeError) and _changes_a_copy(self.f, x):  # torch may refuse to change x itself
                raise _changed(self.name) from error
            error.add_note(
                f"{self.name} was called with samples of shape {list(x.shape)}, the axis of samples on the left, and "
                f"must return values of shape {list(points)}."
            )
            raise
        if count is not None and sample._version != count:
            raise _changed(self.name)
        if copy is not None and not torch.allclose(x.detach(), copy, rtol=0, atol=0, equal_nan=True):
            raise _changed(self.name)
        if not isinstance(fx, Tensor) or fx.dtype not in WIDE or fx.layout != torch.strided or fx.is_nested:
            fx = _floating(fx, x, self.q, self.name)
        if self.columns:
            _check_columns(fx, x, points, self.name)
        elif fx.shape != points:
            fx = _of_shape(fx, x, points, self.name)
        if last is not None and last._version != last_count:
            raise InvalidIntegrand(
                f"{self.name} wrote over the values of its last call, but the estimator still needs them. Return a new "
                "tensor in every call, such as values.clone()."
            )
        last = unwrapped(fx) if transformed() else fx
        self.kept = None if last.requires_grad or last.is_inference() else last
        return fx

    def through(self, around: Callable[[Integrand], Integrand], q: Distribution) -> Checked:
        return CheckedFunction(around(self.f), q)


def _of_shape(fx: Tensor, x: Tensor, points: Size, name: str) -> Tensor:
    """Return one number for one point in the shape of the point; raise ``InvalidIntegrand`` for every other shape."""
    if fx.dim() == 0 and points.numel() == 1:
        return fx.reshape(points)
    raise InvalidIntegrand(
        f"{name} returned shape {list(fx.shape)} for samples of shape {list(x.shape)}: expected {list(points)}, "
        f"one value per sample and batch element. {_advice_on_shape(fx.shape, points, x.dim() - len(points))}"
    )


def _check_columns(fx: Tensor, x: Tensor, points: Size, name: str) -> None:
    """Raise ``InvalidIntegrand`` unless fx has one more axis than the points."""
    if fx.dim() != len(points) + 1 or fx.shape[:-1] != points:
        raise InvalidIntegrand(
            f"{name} returned shape {list(fx.shape)} for samples of shape {list(x.shape)}: expected {list(points)} and "
            "one more axis, the costs. Keep all axes on the left, and do not sum over the costs."
        )


_EVALUATED: dict[object, int] = {}
"""Number of calls, up to ``COMPARED``, of every function that was an integrand."""
COMPARED = 3
"""In its first calls, as many as this, an integrand's argument is compared with a copy."""


def _is_new(f: Integrand, x: Tensor) -> bool:
    """Return whether this is one of the first calls of f, and x shows its values; functions of one source are one."""
    if torch.compiler.is_compiling():
        return False
    f = getattr(f, "__wrapped__", f)
    code = getattr(f, "__code__", type(f))
    calls = _EVALUATED.get(code, 0)
    if calls == COMPARED or transformed() or x.is_meta:
        return False
    _EVALUATED[code] = calls + 1
    return True


def _changes_a_copy(f: Integrand, x: Tensor) -> bool:
    """Return whether f changes a copy of x, which has memory of its own and no graph."""
    copy = x.detach().clone(memory_format=torch.contiguous_format)
    counted = unwrapped(copy)
    before = counted._version
    with contextlib.suppress(Exception), torch.no_grad():
        f(copy)
    return bool(counted._version != before)


def _changed(name: str) -> InvalidIntegrand:
    return InvalidIntegrand(
        f"{name} changes its argument x in place, but the estimator still needs the sample x. Work on a copy, such as "
        "x.clone() or x.numpy().copy(), or use operations that make a new tensor, such as x.clamp(0, 1)."
    )


def _advice_on_shape(got: Size, points: Size, axes: int) -> str:
    if got == (*points, 1):
        return "Squeeze the last axis."
    if got[: len(points)] == points:
        return "Sum over the event axes."
    if len(got) and not axes and got == points[: len(got)]:
        return f"q has no event axes: if its last axes are one event, use Independent(q, {len(points) - len(got)})."
    return "Keep all axes on the left, and sum over the event axes only."


def _floating(value: Any, x: Tensor, q: Distribution, name: str) -> Tensor:
    """Return the values of f in float32 or float64 on the device of x, with their graph if they have one."""
    if value is None:
        raise InvalidIntegrand(f"{name} returned None: expected one value per sample. Add a `return`.")
    held = (
        t.dtype
        for t in (x, *vars(inner(q)).values(), first_parameter(q))
        if isinstance(t, Tensor) and t.is_floating_point()
    )
    dtype = torch.promote_types(next(held, torch.get_default_dtype()), torch.float32)  # half precision loses counts
    try:
        found = _as_tensor(value, dtype).to(x.device)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        raise InvalidIntegrand(
            f"{name} returned {_article(value)}: expected real numbers, one per sample and batch element, in a tensor, "
            f"an array or a list. The cause: {str(error).splitlines()[0]}"
        ) from error
    smooth = is_differentiated(found) or (isinstance(value, Tensor) and value.is_floating_point())
    if is_differentiated(x) and not smooth:  # in a Bound, log q(x) would hide it
        kind = str(value.dtype) if isinstance(value, Tensor) else _article(value)
        raise NotDifferentiable(
            f"The estimator needs df/dx, and {name} returned {kind}, which has no gradient in x. Use ScoreFunction or "
            "RLOO, which only evaluate f."
        )
    return found


def _as_tensor(value: Any, dtype: torch.dtype) -> Tensor:
    """Return a value as a tensor of the given dtype; a tensor of float32 or float64 is returned as it is."""
    if isinstance(value, tuple):
        raise TypeError("a tuple is not an array. Return the values alone.")
    if isinstance(value, list) and not all(isinstance(each, int | float) for each in value):
        return torch.stack([_as_tensor(each, dtype) for each in value])
    if isinstance(value, int | float | list):
        return torch.tensor(value, dtype=dtype)
    if isinstance(value, Tensor):
        if value.is_nested or value.layout != torch.strided:
            raise TypeError("the tensor is sparse or nested. Return a dense tensor, for example by to_dense().")
        found = value
    else:
        try:
            found = torch.tensor(value)  # a copy: f may use its array again
        except (TypeError, ValueError):
            if not hasattr(value, "tolist"):
                raise
            return _as_tensor(value.tolist(), dtype)  # an array of objects, of another byte order or read backwards
    if found.is_complex():
        raise TypeError("the numbers are complex.")
    return found if found is value and found.dtype in WIDE else found.to(dtype)


def _checked_call(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return an estimator's ``__call__`` that checks its arguments, every value of f, and the type of the loss."""

    @functools.wraps(call)
    def checked(self: Estimator, f: Integrand, q: Distribution, *args: Any, **kwargs: Any) -> Tensor:
        if transformed():
            _refuse_one_generator(self, *args, **kwargs)
        f, wide = _checked_integrand(self, f, q), widened(q)
        if wide is not q or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            call_wide = _at_full_precision(call, q, wide)
            loss = call_wide(self, f, wide, *args, **kwargs)
        else:
            loss = call(self, f, q, *args, **kwargs)
        if not isinstance(loss, Tensor):
            raise InvalidLoss(f"{self!r} returned {_article(loss)} instead of a loss. Add a `return` to its __call__.")
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
        given = "f and q in the wrong order" if isinstance(f, Distribution) else f"{_article(q)} as q"
        raise Refusal(
            f"{estimator!r} is called with a function f and a torch distribution q, in this order (got {given}). "
            "Use, for example, Normal(loc, scale) or Bernoulli(logits=logits) as q."
        )
    if not callable(f):
        raise InvalidIntegrand(
            f"{estimator!r} needs a function f of samples of q (got {_article(f)}). Pass a callable."
        )
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


def _article(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


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
