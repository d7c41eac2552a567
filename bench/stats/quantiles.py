"""Quantiles and tail probabilities of the normal, Student t and χ² laws. scipy is imported on the first call."""


def normal_quantile(p: float) -> float:
    """Return the p-quantile of the standard normal law."""
    from scipy.special import ndtri

    return float(ndtri(p))


def normal_upper(x: float) -> float:
    """Return P(Z > x) for a standard normal Z."""
    from scipy.special import ndtr

    return float(ndtr(-x))


def t_quantile(p: float, df: float) -> float:
    """Return the p-quantile of Student's t with `df` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, p))


def t_upper(x: float, df: float) -> float:
    """Return P(T > x) for Student's t with `df` degrees of freedom, without cancellation in the far tail."""
    from scipy.special import stdtr

    return float(stdtr(df, -x))


def chi2_upper(x: float, df: float) -> float:
    """Return P(X > x) for a χ² law with `df` degrees of freedom."""
    from scipy.special import chdtrc

    return float(chdtrc(df, x))
