"""Published losses of language model trainers: members of the family ``PolicyGradient`` by name."""

from dataclasses import dataclass
from typing import ClassVar

from estimators.policy_gradient import PolicyGradient


@dataclass(frozen=True)
class DrGRPO(PolicyGradient):
    """Dr. GRPO: the reward minus the mean reward of its group, divided by neither deviation nor length.

    ``g = (1/n) sum_i (r_i - mean r) grad log q(x_i)``

    r_i is the reward of sample x_i, one of the n samples of a prompt, its group. The mean contains the sample itself,
    so the expected gradient is (n - 1)/n times the exact one. Samples of a policy other than q get the importance
    weight of the whole sequence, and the factor is again (n - 1)/n. Trainers that take several steps for one batch use
    ``ratio="token", clipping="ppo", reduction="constant"``, which divides by the largest length. q is a
    ``TokenSequence``. Cost: n evaluations of f.

    The fields are those of ``PolicyGradient``; here ``leave_one_out`` is False.

    Reference: Liu et al. 2025 ("Understanding R1-Zero-like training", 2503.20783).
    """

    leave_one_out: bool = False

    reference: ClassVar[str] = "Liu et al. 2025"


@dataclass(frozen=True)
class DAPO(PolicyGradient):
    """DAPO: group-relative advantages, a mean over all tokens of the batch, and a clip with a wider upper limit.

    ``g = P / (sum of all lengths) sum_i sum_t w_it A_i grad log q(x_it | x_i<t)``

    ``A_i = (r_i - mean r) / (sd r + epsilon)``

    g is the gradient for one of P prompts. r_i is the reward of sample x_i, one of the n samples of this prompt, its
    group. The sum of all lengths counts the tokens of all samples of all prompts. w is the token's probability under q,
    divided by its probability under the sampler. w is set to 0 in two cases: w is above 1.28 and A is positive, or w is
    below 0.8 and A is at most 0. Biased for two reasons. The deviation sd r weights the prompts, and turns the gradient
    unless the reward has two values. The sum of all lengths is random, and depends on the rewards. There is no penalty.
    With ``scaling="none"``, nothing is divided by the deviation. As the number of sequences grows, the expected
    gradient then tends to (n - 1)/n times the exact one, divided by the mean length. q is a ``TokenSequence``. Cost: n
    evaluations of f.

    The fields are those of ``PolicyGradient``; here the defaults are ``leave_one_out=False, scaling="group",
    reduction="token-mean", kl="none", ratio="token", clipping="ppo", clip_high=0.28``.

    Reference: Yu et al. 2025 (2503.14476), whose filter of prompts and soft punishment of length are not here.
    """

    leave_one_out: bool = False
    scaling: str = "group"
    reduction: str = "token-mean"
    kl: str = "none"
    ratio: str = "token"
    clipping: str = "ppo"
    clip_high: float = 0.28

    reference: ClassVar[str] = "Yu et al. 2025"


@dataclass(frozen=True)
class GSPO(PolicyGradient):
    """GSPO: group-relative advantages; the importance weight of a sequence is the geometric mean over its tokens.

    ``g = (1/n) sum_i (1/L_i) s_i A_i grad log q(x_i)``

    ``s_i = (q(x_i) / mu(x_i))^(1/L_i)``

    x_i is one of the n samples of a prompt, its group. mu is the sampler, the policy that drew the samples, and L_i the
    length of sequence i. The factor 1/L_i comes from the derivative of s_i. ``reduction="sum"`` leaves this factor out;
    s_i is then a weight that is not differentiated. A is the reward minus the mean reward of its group, divided by the
    standard deviation of these rewards. s_i is set to 0 in two cases: s_i is above 1 + 0.0004 and A is positive, or s_i
    is below 1 - 0.0003 and A is at most 0. Biased: 1/L_i, the deviation and the root each turn the gradient. q is a
    ``TokenSequence``. Cost: n evaluations of f.

    The fields are those of ``PolicyGradient``; here the defaults are ``leave_one_out=False, scaling="group",
    reduction="sequence-mean", kl="none", ratio="geometric", clipping="ppo", clip_low=0.0003, clip_high=0.0004``.

    Reference: Zheng et al. 2025 ("Group sequence policy optimization", 2507.18071), section 5.1 for the interval.
    """

    leave_one_out: bool = False
    scaling: str = "group"
    reduction: str = "sequence-mean"
    kl: str = "none"
    ratio: str = "geometric"
    clipping: str = "ppo"
    clip_low: float = 3e-4
    clip_high: float = 4e-4

    reference: ClassVar[str] = "Zheng et al. 2025"


@dataclass(frozen=True)
class CISPO(PolicyGradient):
    """CISPO: group-relative advantages; the importance weight of each token is cut off, and not differentiated.

    ``g = P / (sum of all lengths) sum_i sum_t min(w_it, 5) A_i grad log q(x_it | x_i<t)``

    g is the gradient for one of P prompts. x_i is one of the n samples of this prompt, its group. The sum of all
    lengths counts the tokens of all samples of all prompts. w is the token's probability under q, divided by its
    probability under the sampler. A is the reward minus the mean reward of its group, divided by the standard deviation
    of these rewards. Every token keeps a gradient; with PPO's clip some tokens have none. Biased for three reasons: the
    division by the deviation, the random number of tokens, and the weight of one token in place of the weight of the
    sequence. The paper gives no bound for w. TRL recommends 5, the default here; verl clips w to the interval from 0.8
    to 1.2, ``clip_low=0.2, clip_high=0.2``. q is a ``TokenSequence``. Cost: n evaluations of f.

    The fields are those of ``PolicyGradient``; here the defaults are ``leave_one_out=False, scaling="group",
    reduction="token-mean", kl="none", ratio="token", clipping="truncate", clip_low=1.0, clip_high=4.0``.

    Reference: MiniMax 2025 ("MiniMax-M1", 2506.13585); the bound, Khatri et al. 2025 (2510.13786).
    """

    leave_one_out: bool = False
    scaling: str = "group"
    reduction: str = "token-mean"
    kl: str = "none"
    ratio: str = "token"
    clipping: str = "truncate"
    clip_low: float = 1.0
    clip_high: float = 4.0

    reference: ClassVar[str] = "MiniMax 2025"


@dataclass(frozen=True)
class PPO(PolicyGradient):
    """PPO's clipped loss with leave-one-out baselines in place of a learned value function.

    ``g = P / (sum of all lengths) sum_i sum_t w_it A_i grad log q(x_it | x_i<t)``

    ``A_i = r_i - 1/(n-1) sum_{j != i} r_j``

    g is the gradient for one of P prompts. r_i is the reward of sample x_i, one of the n samples of this prompt. The
    sum of all lengths counts the tokens of all samples of all prompts. w is the token's probability under q, divided by
    its probability under the sampler. w is set to 0 in two cases: w is above 1.2 and A is positive, or w is below 0.8
    and A is at most 0. Biased by the random number of tokens; ``reduction="sum"`` avoids this. Samples of a policy
    other than q cause a bias for two more reasons: w is clipped, and w is the weight of one token, not of the sequence.
    ``clip_dual=3.0`` also sets w to 0 where A is negative and w is above 3, as verl does. q is a ``TokenSequence``.
    Cost: n evaluations of f.

    The fields are those of ``PolicyGradient``; here the defaults are
    ``reduction="token-mean", kl_of="sampler", ratio="token", clipping="ppo"``.

    Reference: Schulman, Wolski, Dhariwal, Radford & Klimov 2017 (1707.06347), equation 7.
    """

    reduction: str = "token-mean"
    kl_of: str = "sampler"
    ratio: str = "token"
    clipping: str = "ppo"

    aliases: ClassVar[tuple[str, ...]] = ("ppo-clip",)
    reference: ClassVar[str] = "Schulman et al. 2017"


@dataclass(frozen=True)
class ReMax(PolicyGradient):
    """ReMax: the reward minus the reward of greedy decoding.

    ``g = (1/n) sum_i (r_i - r(greedy)) grad log q(x_i)``

    r_i is the reward of sample x_i, and r(greedy) that of the sequence of the most probable tokens. Unbiased: the
    greedy sequence is not random. If the reward has parameters of its own, the baseline passes no gradient to them. q
    is a ``TokenSequence``; ``SelfCritical`` serves other families. Cost: n + 1 evaluations of f.

    The fields are those of ``PolicyGradient``; here the defaults are ``n=1, baseline="greedy"``.

    Reference: Li et al. 2024 (2310.10505).
    """

    n: int = 1
    baseline: str = "greedy"

    command_name: ClassVar[str] = "remax"
    reference: ClassVar[str] = "Li et al. 2024"


@dataclass(frozen=True)
class OPO(PolicyGradient):
    """OPO: the reward minus a mean reward of its group, weighted by the lengths of the sequences.

    ``g = (1/n) sum_i (r_i - b) grad log q(x_i)``

    ``b = sum_j L_j r_j / sum_j L_j``

    r_i and L_i are the reward and the length of sample x_i, one of the n samples of a prompt, its group. The best
    constant baseline would weight the rewards by the squared norms of the scores; here the lengths are the weights.
    Biased, in length and in direction: the baseline contains the sample itself. With ``leave_one_out=True`` it does
    not, and the estimator is unbiased. q is a ``TokenSequence``. Cost: n evaluations of f.

    The fields are those of ``PolicyGradient``; here the defaults are ``baseline="length", leave_one_out=False``.

    Reference: Hao et al. 2025 ("On-policy RL with optimal reward baseline", 2505.23585).
    """

    baseline: str = "length"
    leave_one_out: bool = False

    reference: ClassVar[str] = "Hao et al. 2025"


@dataclass(frozen=True)
class OptimalTokenBaseline(PolicyGradient):
    """Optimal token baseline: at each token, the mean return of the group weighted by the squared scores so far.

    ``g = (1/n) sum_i sum_t (R_it - b_t) grad log q(x_it | x_i<t)``

    ``b_t = sum_j W_jt R_jt / sum_j W_jt``

    ``W_jt = sum_{u <= t} (1 - 2 q(x_ju | x_j<u) + sum_v q(v | x_j<u)^2)``,  0 after the end of sequence j

    x_i is one of the n samples of a prompt, its group, and R_it its return: the reward, less the penalties of the
    tokens from t on. W_jt adds up, over the tokens u of sequence j up to t, the squared norm of the score of token u in
    its logits. Biased, in length and in direction: the baseline contains the sample itself. With ``leave_one_out=True``
    it does not, and the estimator is unbiased; where no other sequence reaches token t, the baseline is then 0. q is a
    ``TokenSequence``. Cost: n evaluations of f.

    The fields are those of ``PolicyGradient``; here the defaults are
    ``baseline="optimal-token", leave_one_out=False, kl_per="token"``.

    Reference: Li et al. 2026 ("The optimal token baseline", 2602.07078), as the trainer verl computes it.
    """

    baseline: str = "optimal-token"
    leave_one_out: bool = False
    kl_per: str = "token"

    reference: ClassVar[str] = "Li et al. 2026"


@dataclass(frozen=True)
class ReinforcePlusPlus(PolicyGradient):
    """REINFORCE++: returns, whitened over all tokens of the batch.

    ``g = P / (sum of all lengths) sum_i sum_t w_it ((R_it - mean R) / sd R) grad log q(x_it | x_i<t)``

    g is the gradient for one of P prompts. x_i is one of the n samples of this prompt. The sum of all lengths counts
    the tokens of all samples of all prompts. The return R of a token is the reward minus the penalties of this token
    and all later tokens. The penalty of a token is beta (log mu - log ref): mu is its probability under the sampler,
    the policy that drew the samples, and ref its probability under a reference policy. mean R and sd R are over the
    tokens of all sequences of all prompts, so long sequences count more. w is the token's probability under q, divided
    by mu. w is set to 0 in two cases: w is above 1.2 and R exceeds mean R, or w is below 0.8 and R is at most mean R.
    Biased, by a random scale and in direction: the mean and the deviation contain the sample itself. With
    ``baseline="mean"``, the mean of R_jt over the n samples j of the same prompt is first subtracted from R_it, as in
    the variant named REINFORCE++-baseline. q is a ``TokenSequence``. Cost: n evaluations of f.

    The fields are those of ``PolicyGradient``; here the defaults are ``baseline="none", leave_one_out=False,
    scaling="tokens", reduction="token-mean", kl_per="token", kl_of="sampler", ratio="token", clipping="ppo"``.

    Reference: Hu et al. 2025 (2501.03262).
    """

    baseline: str = "none"
    leave_one_out: bool = False
    scaling: str = "tokens"
    reduction: str = "token-mean"
    kl_per: str = "token"
    kl_of: str = "sampler"
    ratio: str = "token"
    clipping: str = "ppo"

    aliases: ClassVar[tuple[str, ...]] = ("reinforce++",)
    reference: ClassVar[str] = "Hu et al. 2025"
