"""The exceptions that estimators raise."""


class Refusal(ValueError):
    """The estimator cannot work with its fields, with q or with f. The message says what to use instead."""


class UnsupportedFamily(Refusal):
    """The estimator does not support the family of q."""


class NotDifferentiable(Refusal):
    """The estimator needs the gradient of the integrand in x, and the integrand has none."""


class InvalidParameter(Refusal):
    """A field of an estimator has an invalid value."""


class InvalidIntegrand(Refusal):
    """The integrand changes its argument, or does not return one number per sample and batch element."""


class InvalidLoss(ValueError):
    """An estimator returned something other than a tensor ``[*batch]`` that is differentiable in q's parameters."""
