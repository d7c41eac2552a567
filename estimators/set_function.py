"""Set functions: integrands that judge k samples together, such as the best of k."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor
from torch.distributions import Distribution

from estimators._integrand import Checked, CheckedFunction, Integrand
from estimators._protocol import Estimator
from estimators._refusals import InvalidIntegrand, Refusal


@dataclass(frozen=True, eq=False)
class SetFunction(Checked):
    """An integrand that computes a value for each of k samples, and combines the k values into one number.

    ``f(x) = F(values(x_1), ..., values(x_k))``

    One sample of q is a whole set ``x_1 ... x_k``: k independent samples of one distribution along q's first event
    axis, as in ``Repeated(q, k)``. F must not depend on the order of the samples. ``MultiSample`` forms many sets from
    the samples that it has drawn. For every other estimator, a ``SetFunction`` is an ordinary f. Examples of F, for
    values along the last axis:

    - the best of k, and pass@k if the values are 0 or 1: ``lambda v: v.amax(-1)``;
    - the mean of the m worst of k, their conditional value at risk: ``lambda v: v.sort(-1).values[..., :m].mean(-1)``;
    - entropic risk with aversion a: ``lambda v: ((-a * v).logsumexp(-1) - math.log(v.shape[-1])) / -a``;
    - an importance-weighted bound, if the values are log-weights:
      ``lambda v: v.logsumexp(-1) - math.log(v.shape[-1])``.

    Args:
        values: one number for each sample of a set, ``[..., *batch, k, *event] -> [..., *batch, k]``.
        combine: F, ``[..., k] -> [...]``; it may be differentiable or not.
        q: the distribution of sets; estimators set it.
    """

    values: Integrand
    combine: Callable[[Tensor], Tensor]
    q: Distribution | None = None  # type: ignore[assignment]

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), ``[..., *batch]``, for sets x, ``[..., *batch, k, *event]``."""
        if self.q is None:
            return self.together(self.values(x))
        return self.together(self.each(x, self.q))

    def through(self, around: Callable[[Integrand], Integrand], q: Distribution | None) -> "SetFunction":
        """Return a copy of this function for sets drawn from ``q``, with ``around(values)`` in place of ``values``.

        Args:
            around: maps a function of x to a function of x, such as one that counts its calls.
            q: the distribution of the sets. If it is None, the copy does not check what ``values`` returns.
        """
        return replace(self, values=around(self.values), q=q)

    def each(self, x: Tensor, q: Distribution) -> Tensor:
        """Return the value of each sample in sets drawn from q, ``[..., *batch, k]``.

        Args:
            x: sets, ``[..., *batch, k, *event]``.
            q: the distribution of the sets.

        Raises:
            InvalidIntegrand: the values have another shape, or ``values`` changes x.
        """
        return CheckedFunction(self.values, q, len(q.event_shape) - 1, "values of the SetFunction")(x)

    def together(self, values: Tensor) -> Tensor:
        """Return f of each set, ``[...]``, from the values of its k samples.

        Args:
            values: the values, ``[..., k]``.

        Raises:
            InvalidIntegrand: ``combine`` does not return one number for each set.
        """
        combined = self.combine(values)
        if not isinstance(combined, Tensor) or combined.shape != values.shape[:-1]:
            got = f"shape {list(combined.shape)}" if isinstance(combined, Tensor) else type(combined).__name__
            raise InvalidIntegrand(
                f"combine of the SetFunction returned {got} for values of shape {list(values.shape)}: expected a "
                f"tensor of shape {list(values.shape[:-1])}, one number for each set. Reduce over the last axis only, "
                "as with values.amax(-1)."
            )
        return combined.to(values.dtype)


def shown(estimator: Estimator, f: Integrand) -> SetFunction:
    """Return f if it is a ``SetFunction``.

    Raises:
        Refusal: f is no ``SetFunction``. The message names ``estimator``.
    """
    if not isinstance(f, SetFunction):
        raise Refusal(
            f"{estimator!r} needs a SetFunction, an f that shows one value for each sample of a set (got "
            f"{type(f).__name__.replace('CheckedFunction', 'a plain function')}). Use SetFunction(values, combine), or "
            "RLOO, which works with any f."
        )
    return f
