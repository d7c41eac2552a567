"""Group-relative advantages: f minus the mean of its group, over the standard deviation of the group."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._checks import at_least, positive, true_or_false
from estimators._densities import score
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import has_law, inner
from estimators._protocol import Estimator, State
from estimators._surrogate import joined
from estimators.policy_gradient import PolicyGradient
from estimators.policy_presets import DrGRPO
from estimators.token_sequence import TokenSequence


@dataclass(frozen=True)
class GRPO(Estimator):
    """Score function with group-relative advantages, as in group relative policy optimization (GRPO).

    ``g = (1/n) sum_k A_k grad log q(x_k)``,  x_k ~ q

    ``A_k = (f(x_k) - mean f) / (sd f + epsilon)``

    mean f and sd f are the mean and the standard deviation (with n - 1) of the n values. Biased in two ways. The mean
    contains the sample itself, which makes the expected gradient (n - 1)/n times as long. The division by sd f
    multiplies the expected gradient by a factor that depends on q and f. The division also turns the gradient, unless f
    has only two values. Needs a q with ``log_prob``; f may be a black box. Cost: n evaluations of f.

    ``normalise=False`` leaves the division out, as Dr. GRPO does: ``A_k = f(x_k) - mean f``. The expected gradient is
    then (n - 1)/n times the exact one. RLOO divides by this factor, and is unbiased.

    On a ``TokenSequence``, the estimator is the loss for language models:

    ``g = (1/n) sum_k (1/L_k) sum_t (w_kt A_k - beta (1 - exp(-d_kt))) grad log q_t(x_kt | x_k<t)``

    L is the length of a sequence. w is the token's probability under q, divided by its probability under the sampler,
    the policy that drew the samples. w is set to 0 in two cases: w is above 1.2 and A is positive, or w is below 0.8
    and A is at most 0. d is log q - log ref of the token, with a reference policy ref. ``PolicyReturn`` holds the
    sampler, the reference and beta. beta weighs a penalty on the distance of q from ref: exp(-d) - 1 + d, named k3. The
    term with beta is the gradient of this penalty. The factor 1/L turns the gradient unless all sequences are equally
    long. ``normalise=False`` is ``DrGRPO``. Other choices are fields of ``PolicyGradient``.

    Args:
        n: number of samples in the group, at least 2.
        normalise: whether the advantages are divided by the standard deviation.
        epsilon: a small number that is added to the standard deviation.

    Reference: Shao et al. 2024 ("DeepSeekMath", 2402.03300), section 4.1; without the division, Liu et al. 2025
    (2503.20783).
    """

    n: int = 2
    normalise: bool = True
    epsilon: float = 1e-4

    unbiased = False
    needs_greedy = False
    """Whether ``weights`` needs the reward of greedy decoding."""
    needs_squares = False
    """Whether ``weights`` needs the sums of the squared probabilities."""
    aliases: ClassVar[tuple[str, ...]] = ("group-relative",)
    reference: ClassVar[str] = "Shao et al. 2024"

    def __post_init__(self) -> None:
        at_least(self, 2, ": a group has at least two samples. Use ScoreFunction(n=1) or GRPO(n=2).")
        true_or_false(self, "normalise")
        positive(self, "epsilon")

    @property
    def linear_in_f(self) -> bool:  # type: ignore[override]
        """Whether c f has c times the gradient of f, for every number c: only if ``normalise`` is False."""
        return not self.normalise

    @property
    def gradient_scale(self) -> float | None:  # type: ignore[override]
        """The expected gradient divided by the exact one, (n - 1)/n; None if ``normalise`` is True."""
        return None if self.normalise else (self.n - 1) / self.n

    @property
    def of_tokens(self) -> PolicyGradient:
        """The ``PolicyGradient`` that gives the same estimates as this estimator on a ``TokenSequence``."""
        if not self.normalise:
            return DrGRPO(self.n)
        return PolicyGradient(
            self.n,
            leave_one_out=False,
            scaling="group",
            epsilon=self.epsilon,
            reduction="sequence-mean",
            kl="k3",
            kl_in="loss",
            kl_per="token",
            ratio="token",
            clipping="ppo",
        )

    def weights(
        self,
        rewards: Tensor,
        logp: Tensor,
        log_ref: Tensor | None,
        log_mu: Tensor | None,
        mask: Tensor,
        *,
        greedy: Tensor | None = None,
        squares: Tensor | None = None,
        beta: float = 0.0,
    ) -> Tensor:
        """Return the factors of the scores of tokens, for a ``TokenSequence``: ``[..., P, G, T]``.

        The gradient for prompt p is ``sum_i sum_t weight_pit grad log q(x_pit | x_pi<t)``, with the result as weight. T
        is the largest number of tokens of a sequence.

        Args:
            rewards: the rewards of the G samples of each of P prompts, ``[..., P, G]``.
            logp: log-probability of each token under q, 0 after the end, ``[..., P, G, T]``.
            log_ref: log-probability of each token under the reference policy, ``[..., P, G, T]``; None for no penalty.
            log_mu: log-probability of each token under the sampler, ``[..., P, G, T]``; None if q drew the samples.
            mask: whether each token belongs to its sequence, bool, ``[..., P, G, T]``.
            greedy: ignored.
            squares: ignored.
            beta: the weight of the penalty on the distance of q from the reference policy.
        """
        return self.of_tokens.weights(rewards, logp, log_ref, log_mu, mask, greedy=greedy, squares=squares, beta=beta)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        if has_law(type(inner(q)), TokenSequence):
            return self.of_tokens.loss(f, q, generator, self)
        x = draw(q, self.n, generator)
        fx = f(x)
        value = fx.mean(0)
        advantage = (fx - value).detach()
        if self.normalise:
            advantage = advantage / (advantage.square().sum(0) / (self.n - 1)).sqrt().add(self.epsilon)
        return joined(value, score(q, x, advantage / self.n, self), self)
