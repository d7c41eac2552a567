"""Policy gradients of token sequences: one family, whose fields are the choices that language model trainers make."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._checks import at_least, finite, is_finite, one_of, positive, true_or_false
from estimators._fields import named_type
from estimators._integrand import Integrand
from estimators._laws import has_law, inner
from estimators._policy_weights import PENALTIES, SLOPES, baselines, ratios, shares, to_go, whitened
from estimators._protocol import Estimator, State
from estimators._refusals import InvalidParameter, Refusal
from estimators._surrogate import inject_at, joined
from estimators._transforms import no_derivatives
from estimators.policy_return import PolicyReturn
from estimators.token_sequence import TokenSequence


@dataclass(frozen=True)
class PolicyGradient(Estimator):
    """Policy gradient of token sequences, as trainers of language models compute it: one family for their losses.

    ``g = sum_i sum_t share_it (rho_it A_it - beta k'(d_it)) grad log q(x_it | x_i<t)``,  x_i ~ mu

    i runs over the n samples of a prompt, its group, and t over the tokens. The advantage A is a return (the reward of
    the sample, perhaps less a penalty) minus a baseline, perhaps divided by a scale. The sampler mu is the policy that
    drew the samples. The importance weight rho is q divided by mu, perhaps clipped. The penalty k is a function of d =
    log q - log ref, and k' its derivative. The term with k' is there only if ``kl_in`` is "loss". If ``kl_in`` is
    "reward", beta k is subtracted from the reward instead. The share is 1/n, or another factor that ``reduction``
    chooses.

    Every choice has a field. With the defaults the estimator is RLOO. The baseline of a sample then comes from the
    other samples. ``kl_in`` is then "reward", and rho is the weight of the whole sequence. The defaults are unbiased
    for any sampler. f is a ``PolicyReturn``, or any function of sequences, and may be a black box. q is a
    ``TokenSequence``, whose last batch axis is the axis of prompts. Cost: n evaluations of f, and one more for the
    greedy baseline.

    Args:
        n: number of samples in the group of each prompt.
        baseline: "none"; "mean", the mean of the group's returns; "length", the mean weighted by the lengths of the
            sequences; "optimal-token", the mean at each token, weighted by the squared scores of the tokens up to this
            token; "greedy", the reward of greedy decoding.
        leave_one_out: whether the baseline of a sample leaves out the sample itself.
        scaling: "none"; "group", divide by the standard deviation of the group's returns; "batch", divide by the
            deviation of all returns of the batch; "tokens", whiten: subtract the mean over all tokens of the batch and
            divide by their deviation.
        epsilon: a small number that is added to the deviation; if tokens are whitened, its square is added to the
            variance.
        reduction: "sum", the sum over the tokens of a sample; "sequence-mean", the mean over them; "constant", their
            sum divided by the largest length. These three are then averaged over the group. "token-mean", the mean over
            all tokens of the batch.
        kl: the penalty: "none"; "k1", d; "k2", d^2 / 2; "k3", exp(-d) - 1 + d.
        kl_in: where the penalty is: "reward", a part of the return; or "loss", a term of its own, whose slope k' is in
            g.
        kl_per: "sequence": d is of the whole sequence. "token": d is of each token; a penalty in the reward then counts
            for its own token and for the tokens before.
        kl_of: "policy": d has the log-probabilities of q. "sampler": d has those of the sampler, which are known when
            the samples are drawn; only for a penalty in the reward.
        kl_ratio: whether a penalty in the loss is multiplied by q divided by the sampler, and differentiated together
            with this ratio.
        beta: the weight of the penalty; None for the integrand's ``beta``.
        ratio: the importance weight: "none"; "token"; "sequence", the product over the sequence; "geometric", the L-th
            root of the product over L tokens; "cumulative", the product up to the token; "per-decision", which also
            multiplies each part of the return by the product up to that part.
        clipping: "none"; "ppo", no gradient where the ratio is above 1 + clip_high and A is positive, or the ratio is
            below 1 - clip_low and A is at most 0; "truncate", a ratio outside these limits is replaced by the nearer
            limit.
        clip_low: the lower limit of the ratio is 1 - clip_low; at least 0.
        clip_high: the upper limit of the ratio is 1 + clip_high; at least 0.
        clip_dual: if PPO clips: where the advantage is negative, a ratio above this bound has no gradient. Above 1, or
            None for no bound.

    Reference: Ahmadian et al. 2024 ("Back to basics", 2402.14740); the penalties, Schulman 2020; per decision, Precup,
    Sutton & Singh 2000.
    """

    n: int = 2
    baseline: str = "mean"
    leave_one_out: bool = True
    scaling: str = "none"
    epsilon: float = 1e-4
    reduction: str = "sum"
    kl: str = "k1"
    kl_in: str = "reward"
    kl_per: str = "sequence"
    kl_of: str = "policy"
    kl_ratio: bool = False
    beta: float | None = None
    ratio: str = "sequence"
    clipping: str = "none"
    clip_low: float = 0.2
    clip_high: float = 0.2
    clip_dual: float | None = None

    families = (TokenSequence,)
    reference: ClassVar[str] = "Ahmadian et al. 2024"

    def __post_init__(self) -> None:
        one_of(self, "baseline", "mean", "none", "length", "optimal-token", "greedy")
        one_of(self, "scaling", "none", "group", "batch", "tokens")
        one_of(self, "reduction", "sum", "sequence-mean", "token-mean", "constant")
        one_of(self, "kl", "k1", "k2", "k3", "none")
        one_of(self, "kl_in", "reward", "loss")
        one_of(self, "kl_per", "sequence", "token")
        one_of(self, "kl_of", "policy", "sampler")
        one_of(self, "ratio", "sequence", "none", "token", "geometric", "cumulative", "per-decision")
        one_of(self, "clipping", "none", "ppo", "truncate")
        for field in ("leave_one_out", "kl_ratio"):
            true_or_false(self, field)
        positive(self, "epsilon")
        name = type(self).__name__
        for field in ("clip_low", "clip_high"):
            finite(self, field)
            if getattr(self, field) < 0:
                raise InvalidParameter(f"{name} needs {field} >= 0 (got {field}={getattr(self, field)!r}).")
        if self.clip_dual is not None:
            positive(self, "clip_dual")
            if self.clip_dual <= 1 or self.clipping != "ppo":
                raise InvalidParameter(
                    f"{name} needs clipping='ppo' for a clip_dual, and clip_dual > 1 (got clipping={self.clipping!r} "
                    f"and clip_dual={self.clip_dual!r}). Use {name}(ratio='token', clipping='ppo', clip_dual=3.0)."
                )
        if self.beta is not None and not is_finite(self.beta):
            raise InvalidParameter(
                f"{name} needs a finite beta, or None for that of the integrand (got beta={self.beta!r}"
                f"{named_type(self.beta, int, float)}). Use {name}(beta=0.1)."
            )
        if self.beta and self.kl == "none":
            raise InvalidParameter(
                f"{name} needs a penalty for beta={self.beta!r} (got kl='none'). Use {name}(kl='k1')."
            )
        if self.kl_ratio and self.kl_in != "loss":
            raise InvalidParameter(f"{name} needs kl_in='loss' for kl_ratio=True (got kl_in={self.kl_in!r}).")
        if self.kl_of != "policy" and self.kl_in != "reward":
            raise InvalidParameter(f"{name} needs kl_in='reward' for kl_of='sampler' (got kl_in={self.kl_in!r}).")
        if self.clipping != "none" and self.ratio == "none":
            raise InvalidParameter(f"{name} needs a ratio to clip (got ratio='none'). Use {name}(ratio='token').")
        needing = [f for f in ("baseline", "scaling") if getattr(self, f) in _GROUPED]
        if needing:
            why = f"{needing[0]}={getattr(self, needing[0])!r} needs a group of at least two samples"
            at_least(self, 2, f": {why}. Use {name}(n=2), or ReMax(n=1).")
        else:
            at_least(self, 1)

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        """Whether the expected gradient is the gradient of E f, for every sampler and every reference."""
        return self._exact and (self.leave_one_out or self.baseline in ("none", "greedy"))

    @property
    def gradient_scale(self) -> float | None:  # type: ignore[override]
        """The expected gradient divided by the exact one: (n - 1)/n if the baseline is a mean over all n samples.

        The samples are those of one prompt. None if the estimator is unbiased, or if this quotient is unknown.
        """
        known = self._exact and self.baseline == "mean" and not self.leave_one_out
        return (self.n - 1) / self.n if known and self.kl_in == "reward" else None

    @property
    def _exact(self) -> bool:
        """Whether everything but the baseline is exact."""
        in_reward = (self.kl, self.kl_in, self.kl_of) == ("k1", "reward", "policy")
        in_loss = self.kl_in == "loss" and self.kl in ("k1", "k3") and self.kl_per == "sequence" and self.kl_ratio
        choices = (self.scaling, self.reduction, self.clipping, self.beta)
        return (in_reward or in_loss) and choices == ("none", "sum", "none", None) and self.ratio in _EXACT_RATIOS

    @property
    def linear_in_f(self) -> bool:  # type: ignore[override]
        """Whether multiplying f by a number multiplies the gradient by this number.

        True if the field ``scaling`` is "none" and the field ``clipping`` is not "ppo".
        """
        return self.scaling == "none" and self.clipping != "ppo"

    @property
    def couples_batch(self) -> bool:  # type: ignore[override]
        """Whether the estimate for one prompt uses the samples of other prompts."""
        return self.scaling in ("batch", "tokens") or self.reduction == "token-mean"

    @property
    def needs_greedy(self) -> bool:
        """Whether the method ``weights`` needs its argument ``greedy``, the reward of greedy decoding."""
        return self.baseline == "greedy"

    @property
    def needs_squares(self) -> bool:
        """Whether the method ``weights`` needs its argument ``squares``: yes for the baseline "optimal-token".

        ``squares`` holds, for each token, the sum of the squared probabilities of the vocabulary.
        """
        return self.baseline == "optimal-token"

    def refuses(self, family: type[Distribution]) -> str | None:
        """Return the reason why the estimator does not support a class of distributions; None if it does."""
        if has_law(family, TokenSequence):
            return None
        return f"{type(self).__name__} serves TokenSequence, and q is {family.__name__}. Use RLOO or GRPO."

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
        """Return the factors by which the scores of the tokens are multiplied, ``[..., P, G, T]``, without a graph.

        The gradient for prompt p is ``sum_i sum_t weight_pit grad log q(x_pit | x_pi<t)``. The gradient of the batch is
        the mean over the P prompts. T is the largest number of tokens of a sequence.

        Args:
            rewards: the rewards of the G samples of each prompt, ``[..., P, G]``.
            logp: log-probability of each token under q, 0 after the end, ``[..., P, G, T]``.
            log_ref: log-probability of each token under the reference, ``[..., P, G, T]``; None for no penalty.
            log_mu: log-probability of each token under the sampler, ``[..., P, G, T]``; None if q drew the samples.
            mask: whether each token belongs to its sequence, bool, ``[..., P, G, T]``.
            greedy: the reward of greedy decoding, ``[..., P]``, if ``needs_greedy``.
            squares: the sum over the vocabulary of the squared probabilities at each token, ``[..., P, G, T]``, if
                ``needs_squares``.
            beta: the integrand's weight of the penalty; used only if the field ``beta`` of the estimator is None.
        """
        live = mask.to(logp.dtype)
        log_ratio = torch.zeros_like(logp) if log_mu is None else logp - log_mu
        beta = beta if self.beta is None else self.beta
        penalised = self.kl != "none" and beta != 0 and log_ref is not None
        held = logp if log_mu is None or self.kl_of == "policy" else log_mu
        off = held - log_ref if penalised and log_ref is not None else None

        ratio = ratios(self.ratio, log_ratio, live)
        returns = self._returns(rewards.to(logp.dtype).unsqueeze(-1), off, beta, ratio)
        advantages = returns - self._baselines(returns, logp, live, greedy, squares)
        weights = self._clipped(ratio, self._scaled(advantages, returns, live))
        if off is not None and self.kl_in == "loss":
            weights = weights - beta * self._slope(off, log_ratio)
        return weights * live * shares(self.reduction, live)

    def _returns(self, rewards: Tensor, off: Tensor | None, beta: float, ratio: Tensor) -> Tensor:
        """Return the returns, what a sequence earns from each token on: ``[..., P, G, T]`` or ``[..., P, G, 1]``."""
        costs = None
        if off is not None and self.kl_in == "reward":
            if self.kl_per == "sequence":
                rewards = rewards - beta * PENALTIES[self.kl](off.sum(-1, keepdim=True))
            else:
                costs = -beta * PENALTIES[self.kl](off)
        if self.ratio != "per-decision":
            return rewards if costs is None else rewards + to_go(costs)
        later = rewards * ratio[..., -1:]  # the reward comes with the last token
        return (later if costs is None else later + to_go(ratio * costs)) / ratio

    def _baselines(
        self, returns: Tensor, logp: Tensor, live: Tensor, greedy: Tensor | None, squares: Tensor | None
    ) -> Tensor:
        """Return the baseline of each return, ``[..., P, G, T]`` or a shape that broadcasts to it."""
        match self.baseline:
            case "none":
                return torch.zeros_like(returns[..., :1])
            case "greedy":
                assert greedy is not None
                return greedy[..., None, None]
            case "mean":
                mass = torch.ones_like(live[..., :1])
            case "length":
                mass = live.sum(-1, keepdim=True)
            case _:
                assert squares is not None
                mass = ((1 - 2 * logp.exp() + squares) * live).cumsum(-1) * live
        return baselines(returns, mass, self.leave_one_out)

    def _scaled(self, advantages: Tensor, returns: Tensor, live: Tensor) -> Tensor:
        match self.scaling:
            case "none":
                return advantages
            case "group":
                return advantages / (returns.std(-2, keepdim=True) + self.epsilon)
            case "batch":
                return advantages / (returns.std((-3, -2), keepdim=True) + self.epsilon)
            case _:
                return whitened(advantages, live, self.epsilon)

    def _clipped(self, ratio: Tensor, advantages: Tensor) -> Tensor:
        """Return ratio times advantage, clipped, ``[..., P, G, T]`` or a shape that broadcasts to it."""
        low, high = 1 - self.clip_low, 1 + self.clip_high
        match self.clipping:
            case "none":
                return ratio * advantages
            case "truncate":
                return ratio.clamp(low, high) * advantages
            case _:
                beyond = ratio < low if self.clip_dual is None else (ratio < low) | (ratio > self.clip_dual)
                left = torch.where(advantages > 0, ratio > high, beyond)
                return torch.where(left, 0, ratio * advantages)

    def _slope(self, off: Tensor, log_ratio: Tensor) -> Tensor:
        """Return the derivative of the penalty in the log-probability of a token, ``[..., P, G, T]`` or ``[..., 1]``.

        With a ratio w of q and the sampler it is that of ``w k(d)``, which is ``w (k(d) + k'(d))``.
        """
        if self.kl_per == "sequence":
            off, log_ratio = off.sum(-1, keepdim=True), log_ratio.sum(-1, keepdim=True)
        slope = SLOPES[self.kl](off)
        return log_ratio.exp() * (PENALTIES[self.kl](off) + slope) if self.kl_ratio else slope

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the value, ``[*batch]``: an estimate of E f for each prompt, with the estimated gradient attached."""
        self.check(q)
        return self.loss(f, q, generator, self)

    def loss(self, f: Integrand, q: Distribution, generator: Generator | None, who: Estimator) -> Tensor:
        """Return an estimate of E f for each prompt, ``[*batch]``, with the estimated gradient attached.

        Args:
            f: the integrand.
            q: the policy.
            generator: source of the noise; torch's global generator if None.
            who: the estimator that error messages name.
        """
        policy = inner(q)
        assert isinstance(policy, TokenSequence)
        f = f if isinstance(f, PolicyReturn) else PolicyReturn(f, q=q)
        x = f.draw(self.n, generator)
        logp = policy.log_probs(x)
        log_ref, log_mu = f.log_ref(x), f.log_mu(x)
        if self.beta and log_ref is None:
            raise Refusal(
                f"{type(who).__name__} needs a reference for beta={self.beta!r}, and f has none. Use "
                "PolicyReturn(reward, reference=...)."
            )
        with no_derivatives():
            greedy = f.rewards(policy.mode) if self.needs_greedy else None
            squares = policy.logits(x).softmax(-1).square().sum(-1) if self.needs_squares else None
        rewards, now = f.rewards(x), logp.detach()
        weights = self.weights(
            rewards.detach().movedim(0, -1),
            *(t if t is None else t.movedim(0, -2) for t in (now, log_ref, log_mu, policy.mask(x))),  # type: ignore[arg-type]
            greedy=greedy,
            squares=None if squares is None else squares.movedim(0, -2),
            beta=f.beta,
        )
        value = f.penalised(rewards, now, log_ref)
        value = value if log_mu is None else value * (now - log_mu).sum(-1).exp()
        surrogate = inject_at(q.batch_shape, [(weights, logp.movedim(0, -2))], who)
        return joined(value.mean(0), surrogate, who)


_EXACT_RATIOS = ("sequence", "per-decision")
_GROUPED = ("mean", "length", "optimal-token", "group", "batch")
"""The words for what needs more than one sample of a prompt."""
