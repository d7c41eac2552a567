"""The audit of a loss: ``audit(loss) -> Audit``."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from bench.audit.compare import Comparison
from bench.audit.findings import Point
from bench.audit.found import Found, fitted
from bench.audit.loss import Loss
from bench.audit.measure import number_of_batches, traits_of
from bench.audit.policies import AuditPolicy, audit_policies
from bench.audit.result import Audit
from bench.audit.words import PENALTIES, REWARDS
from bench.measurement.threads import single_thread
from bench.planning.selectors import UsageError
from bench.planning.user_code import set_apart

T = TypeVar("T")
MOST_GROUP = 1024
"""Largest number of samples for each prompt."""
LEAST_SAMPLES = 100
"""Smallest number of sampled batches, from which intervals are made."""


def audit(
    loss: Callable[..., Any],
    *,
    name: str = "",
    group: int = 4,
    prompts: int = 4,
    vocabulary: int = 3,
    length: int = 3,
    beta: float | None = None,
    samples: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Compare the expected gradient of a policy-gradient loss with the gradients that it may be meant to have.

    All gradients of the loss are multiplied by −1, so that a step along them lowers the loss. The loss is called in
    this process, on nine policies that are so small that all their sequences can be listed.

    Args:
        loss: a function that returns one number, which is minimised. It is called with the arguments that it names: any
            of ``rewards``, ``[prompts, group]``, and ``logp``, ``old_logp``, ``ref_logp``, ``mask`` and ``tokens``,
            ``[prompts, group, length]``. ``logp``, ``old_logp`` and ``ref_logp`` are log-probabilities of the tokens:
            under the policy, under the policy that wrote them, and under the reference. ``mask`` says which tokens
            belong to their sequence.
        name: the name of the loss in the result; by default the function's own name.
        group: number of samples for each prompt.
        prompts: number of prompts of a batch.
        vocabulary: number of different tokens; token 0 ends a sequence.
        length: the largest number of tokens of a sequence.
        beta: the weight of KL(pi||ref), with the policy pi and the reference ref, that the loss is meant to have; None
            to find the one that fits best.
        samples: number of batches that are sampled for each policy if more than 100,000 different batches are possible;
            otherwise all batches are listed. None means 10,000. If the loss is slow, None means 1,000, and at most
            1,000 batches are listed. A loss is slow if it needs a call for every batch: ``torch.func.vmap`` fails, and
            batches cannot be joined.
        say: called with a line on the progress, again and again, if the loss is slow.

    Raises:
        UsageError: the loss is at fault, or a policy of this size is too large.
        Exception: whatever the loss raises.
    """
    numbers = {"group": group, "prompts": prompts, "vocabulary": vocabulary, "length": length}
    for field, value in {**numbers, **({} if samples is None else {"samples": samples})}.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError(f"An audit needs a whole number {field} (got {value!r}).")
    if not 1 <= group <= MOST_GROUP:
        raise UsageError(f"An audit needs a group from 1 to {MOST_GROUP:,} samples (got {group:,}).")
    if beta is not None and not (isinstance(beta, int | float) and 0 < beta < math.inf):
        raise UsageError(f"An audit needs a finite beta above 0 (got {beta!r}).")
    if samples is not None and samples < LEAST_SAMPLES:
        raise UsageError(f"An audit needs at least {LEAST_SAMPLES} samples (got {samples}).")
    with single_thread(), set_apart(), warnings.catch_warnings(action="ignore"):  # torch warns of std() of one number
        checked = Loss(loss, name)
        return _audit(checked, audit_policies(prompts, vocabulary, length, group), group, samples, beta, say)


def _audit(
    loss: Loss,
    policies: Sequence[AuditPolicy],
    group: int,
    samples: int | None,
    beta: float | None,
    say: Callable[[str], None],
) -> Audit:
    def each(things: Sequence[T], what: str) -> Iterator[T]:
        for number, thing in enumerate(things, 1):
            if loss.is_called_for_each:
                say(f"{what}: policy {number} of {len(things)}")
            yield thing

    traits = traits_of(loss, policies, group)
    rewarded, penalised = "rewards" in loss, "ref_logp" in loss
    if not (rewarded or penalised):
        raise UsageError(
            f"{loss.name} takes neither rewards nor ref_logp, so there is no gradient to compare it with: take one."
        )
    if beta is not None and not (rewarded and penalised):
        missing = "ref_logp" if rewarded else "rewards"
        raise UsageError(
            f"beta weighs KL(pi||ref) against the reward, and {loss.name} takes no {missing}: leave it out."
        )
    found = [Found(loss, policy, group, traits, samples) for policy in each(policies, "gradients")]
    vocabulary = int(policies[0].tokens.max()) + 1
    is_fitted = beta is None
    if beta is None and rewarded and penalised:
        beta = fitted(found)
    targets = dict[str, tuple[Comparison, ...]]()
    if rewarded:
        targets |= {name: tuple(one.of_reward(name) for one in found) for name in REWARDS}
        targets["off-policy"] = tuple(one.off_policy() for one in each(found, "gradients off-policy"))
    if penalised:
        targets |= {name: tuple(one.of_penalty(name) for one in found) for name in PENALTIES}
    if rewarded and penalised and beta:
        targets["penalised-reward"] = tuple(one.of_both(beta) for one in found)
    first, batches = policies[0], number_of_batches(len(policies[0].tokens), policies[0].prompts, group, traits)
    rows = found[0].whole.rows
    variance = tuple(one.variance(beta) for one in found)
    pieces = [one.in_pieces() for one in each(found, "micro-batches")] if traits.pieces is None else []
    rest = ("rest",) if "rewards" not in traits.signs and found[0].leaves_a_rest() else ()
    loss.try_again()
    return Audit(
        loss=loss.name,
        takes=loss.names,
        group=group,
        prompts=first.prompts,
        vocabulary=vocabulary,
        length=first.tokens.shape[1],
        is_exact=rows is None,
        batches=batches if rows is None else len(rows),
        is_vectorised=loss.is_vectorised,
        points=tuple(Point(p.seed, p.distance, p.kl, tuple(p.success.tolist())) for p in policies),
        targets=targets,
        beta=beta,
        is_fitted=is_fitted,
        variance=variance,
        factor=traits.pieces,
        pieces=() if None in pieces else tuple(one for one in pieces if one),
        signs=(*traits.signs, *rest),
    )
