"""Rewards of token sequences: integrands with a reference policy, a penalty and a policy that draws the samples."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Generator, Size, Tensor
from torch.distributions import Distribution

from estimators._checks import is_finite
from estimators._draws import draw
from estimators._integrand import Checked, CheckedFunction, Integrand
from estimators._laws import inner
from estimators._parameters import first_parameter
from estimators._refusals import Refusal
from estimators._transforms import no_derivatives
from estimators.chain import log_probs
from estimators.token_sequence import TokenSequence


@dataclass(frozen=True, eq=False)
class PolicyReturn(Checked):
    """The reward of a token sequence, minus a penalty on the distance of the policy from a reference policy.

    ``f(x) = reward(x) - beta (log q(x) - log ref(x))``

    ``E f = E reward - beta KL(q || ref)``

    The logarithms pass no gradient to q. The gradient of E f needs none, because the expected score is 0. Every
    estimator that works with any f can be used. Estimators made for policies, such as ``PolicyGradient``, use the parts
    of f: they may penalise the distance in another way, and they draw from ``sampler``.

    Args:
        reward: the reward of sequences of T tokens, ``[..., *batch, T] -> [..., *batch]``.
        reference: the reference policy, of batch shape ``[P]`` for the P prompts of q; None for no penalty.
        sampler: the policy that draws the samples of a ``PolicyGradient``, such as the policy of an earlier step of
            training, of batch shape ``[P]``; None for q itself.
        beta: the weight of the penalty.
        q: the policy; estimators set it.

    Raises:
        Refusal: the reward is no function; beta is not a finite number; beta is not 0, but there is no reference; or
            the reference or the sampler has several sets of weights, or does not fit q.
    """

    reward: Callable[[Tensor], Tensor]
    reference: TokenSequence | None = None
    sampler: TokenSequence | None = None
    beta: float = 0.0
    q: Distribution | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not callable(self.reward):
            raise Refusal(f"PolicyReturn needs a function as reward (got {self.reward!r}).")
        if not is_finite(self.beta) or (self.beta and self.reference is None):
            raise Refusal(
                f"PolicyReturn needs a finite beta, and a reference where beta is not 0 (got beta={self.beta!r} and "
                f"reference={self.reference and type(self.reference).__name__}). Give the policy that q is held to."
            )
        for name in ("reference", "sampler"):
            self._check_policy(name, getattr(self, name))

    def _check_policy(self, name: str, policy: object) -> None:
        """Raise ``Refusal`` unless a policy is None, or a ``TokenSequence`` with the prompts and sequences of q."""
        if policy is None:
            return
        if not isinstance(policy, TokenSequence):
            raise Refusal(f"PolicyReturn needs a TokenSequence as {name} (got a {type(policy).__name__}).")
        if len(policy.batch_shape) > 1:
            raise Refusal(
                f"PolicyReturn needs a {name} with one set of weights, of batch shape [{policy.prompts}] (got "
                f"{list(policy.batch_shape)})."
            )
        q = None if self.q is None else inner(self.q)
        if isinstance(q, TokenSequence) and _sizes(policy) != _sizes(q):
            raise Refusal(
                f"PolicyReturn needs a {name} with the prompts, length and vocabulary of q, {_sizes(q)} (got "
                f"{_sizes(policy)}). Make it with those of q."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), ``[..., *batch]``, for sequences x, ``[..., *batch, T]``."""
        reward = self.rewards(x)
        if not self.beta:
            return reward
        if self.q is None:
            raise Refusal("A PolicyReturn with a penalty needs its q. Set q, or call an estimator, which sets it.")
        with no_derivatives():
            logp = log_probs(self.q, x)
        return self.penalised(reward, logp, self.log_ref(x))

    def rewards(self, x: Tensor) -> Tensor:
        """Return the rewards alone, ``[..., *batch]``, for sequences x of T tokens, ``[..., *batch, T]``."""
        return self.reward(x) if self.q is None else CheckedFunction(self.reward, self.q, name="the reward")(x)

    def penalised(self, rewards: Tensor, logp: Tensor, log_ref: Tensor | None) -> Tensor:
        """Return the rewards of sequences minus ``beta (log q - log ref)``, ``[..., *batch]``.

        ``beta`` is the field of this name. log q and log ref are the sums of ``logp`` and ``log_ref`` over the T tokens
        of a sequence. Without a reference, the rewards are returned as they are.

        Args:
            rewards: the rewards, ``[..., *batch]``.
            logp: the log-probabilities of the tokens under q, without a graph, ``[..., *batch, T]``.
            log_ref: the same under the reference policy, ``[..., *batch, T]``; None if there is no reference.
        """
        return rewards - self.beta * (logp - log_ref).sum(-1) if self.beta and log_ref is not None else rewards

    def log_ref(self, x: Tensor) -> Tensor | None:
        """Return the log-probability of each token of x under the reference; None if there is no reference.

        x and the result are ``[..., *batch, T]``, for sequences of T tokens.
        """
        return self._log_probs(self.reference, x)

    def log_mu(self, x: Tensor) -> Tensor | None:
        """Return the log-probability of each token of x under the sampler; None if q itself draws the samples.

        x and the result are ``[..., *batch, T]``, for sequences of T tokens.
        """
        return self._log_probs(self.sampler, x)

    def _log_probs(self, policy: TokenSequence | None, x: Tensor) -> Tensor | None:
        if policy is None:
            return None
        with no_derivatives():
            found = policy.log_probs(x)
        return found if self.q is None else found.to(first_parameter(self.q).dtype)

    def through(self, around: Callable[[Integrand], Integrand], q: Distribution | None) -> "PolicyReturn":
        """Return a copy of this integrand for samples of ``q``, with ``around(reward)`` in place of ``reward``.

        ``around`` maps a function of x to a function of x, such as one that counts its calls. If ``q`` is None, the
        copy gets its q from an estimator later.
        """
        return replace(self, reward=around(self.reward), q=q)

    def draw(self, n: int, generator: Generator | None) -> Tensor:
        """Return n sequences of T tokens for every batch element, ``[n, *batch, T]``, without a graph.

        The sampler draws them, or q if there is no sampler. If ``generator`` is None, the random numbers come from
        torch's global generator.
        """
        assert self.q is not None
        if self.sampler is None:
            return draw(self.q, n, generator)
        with no_derivatives():
            return self.sampler.draw(Size((n, *self.q.batch_shape[:-1])), generator)


def _sizes(q: TokenSequence) -> tuple[int, int, int]:
    """Return the number of prompts, the largest length and the vocabulary."""
    return q.prompts, q.length, q.vocabulary
