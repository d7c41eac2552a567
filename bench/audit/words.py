"""What an audit says in words: a sentence on each part of the expected gradient, and the text of the command."""

from collections.abc import Mapping, Sequence
from math import atan, ceil, degrees

from bench.audit.compare import TOLERANCE
from bench.audit.findings import Comparisons, Findings
from bench.audit.measure import FEWER
from bench.audit.signs import SIGNS
from bench.stats.printing import format_bound
from bench.stats.summary import Direction

REWARDS = {
    "reward": "the expected reward",
    "arcsine": "2 arcsin sqrt(p)",
    "log": "log p",
    "pass@k": "pass@{k}",
}
"""The targets of the reward in words; p is the expected reward of a prompt. The first is the usual one."""
PENALTIES = {
    "reverse-kl": "KL(pi||ref)",
    "forward-kl": "KL(ref||pi)",
    "token-kl": "the token-level KL(pi||ref)",
    "token-forward-kl": "the token-level KL(ref||pi)",
}
"""The targets of the penalty in words. The first is the usual one."""
SMALL = 0.005
"""Degrees below which an exact angle is not worth mentioning."""


def sentence(audit: Findings) -> str:
    """Return in words what an audit has found about a loss's gradient.

    The text has one sentence for each part of the gradient, such as the penalty, and one for each sign of a mistake.
    """
    out = []
    if "reward" in audit.targets:
        names = {name: label.format(k=audit.group) for name, label in REWARDS.items()}
        out.append(f"A step down this loss {_predicate('is, on average,', audit.targets, names)}.")
    if "reverse-kl" in audit.targets:
        subject = "Its penalty" if out else "A step down this loss"
        verb = "has, on average," if out else "is, on average, minus"
        out.append(f"{subject} {_predicate(verb, audit.targets, PENALTIES)}.")
    if "old_logp" in audit.takes and "off-policy" in audit.targets:
        older = {"off-policy": audit.targets["off-policy"]}
        out.append(f"With samples of an older policy it {_predicate('is', older, {'off-policy': REWARDS['reward']})}.")
    return " ".join([*out, *(SIGNS[name] for name in audit.signs)])


def _predicate(verb: str, targets: Mapping[str, Comparisons], names: Mapping[str, str]) -> str:
    """Return what a part of the expected gradient is, as the predicate of a sentence, such as "is ... times ..."."""
    usual, *others = names
    found = targets[usual]
    of_usual = f"the gradient of {names[usual]}"
    if all(each.scale == 0 for each in found):
        return "has no expected gradient" if verb.startswith("is") else "does not change the expected gradient"
    if _is_settled(found):
        return f"{verb} {_times(found)}{of_usual}; {_turn(found)}"
    if _is_opposite(found):
        return f"{verb} {scales(found)} times {of_usual}: it points the opposite way"
    for name in others:
        if _is_settled(targets[name]):
            return f"{verb} {_times(targets[name])}the gradient of {names[name]}, not of {names[usual]}"
        if _is_opposite(targets[name]):
            return f"{verb} {scales(targets[name])} times the gradient of {names[name]}: it points the opposite way"
    if away := sum(each.direction == Direction.POINTS_AWAY for each in found):
        return f"points away from {of_usual} for {away} of {len(found)} policies"
    if any(each.direction == Direction.TURNED for each in found):
        return f"{verb} {_times(found)}{of_usual}, turned by {angles(found)} degrees"
    return f"{verb} {_times(found)}{of_usual}; {_turn(found)}"


def _is_settled(found: Comparisons) -> bool:
    return all(each.is_aligned for each in found)


def _is_opposite(found: Comparisons) -> bool:
    ends = [each.angle if each.angle_low is None else each.angle_low for each in found]
    return all(180 - end <= degrees(atan(TOLERANCE)) for end in ends)


def _times(found: Comparisons) -> str:
    return "" if all(each.direction == Direction.UNBIASED for each in found) else f"{scales(found)} times "


def _turn(found: Comparisons) -> str:
    most = max(each.angle if each.angle_high is None else each.angle_high for each in found)
    if most < SMALL:
        return "no turn"
    limit = f"at most {format_bound(most, ceil)} degrees"
    return f"no turn ({limit})" if _is_settled(found) else f"direction not settled, {limit}"


def scales(found: Comparisons) -> str:
    """Return the least and the largest scale of the comparisons in ``found`` as text, such as ``0.71 to 0.83 ± 0.02``.

    A comparison is between an expected gradient of a loss and its target, the gradient that it may be meant to have.
    The scale is the component of the gradient along its target, divided by the length of the target. The number after ±
    is the largest half-width of an interval of a scale. It is left out if the scales are exact.
    """
    limits = [(each.scale_low, each.scale_high) for each in found]
    halves = [(high - low) / 2 for low, high in limits if low is not None and high is not None]
    return _span([each.scale for each in found], 3) + (f" ± {max(halves):.1g}" if halves else "")


def angles(found: Comparisons) -> str:
    """Return the least and the largest angle of the comparisons in ``found`` as text, in degrees, such as ``4 to 9``.

    The angles are those between an expected gradient of a loss and its target, the gradient that it may be meant to
    have.
    """
    low, high = (f"{end:.{0 if end >= 10 else 1}f}" for end in _ends([each.angle for each in found]))
    return (low if low == high else f"{low} to {high}").replace("0.0", "0")


def _span(values: Sequence[float], digits: int) -> str:
    low, high = (f"{end:.{digits}g}" for end in _ends(values))
    return low if low == high else f"{low} to {high}"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def text(audit: Findings) -> str:
    """Return the text that ``bench audit`` prints: sentences on the loss, a table of its comparisons, and notes."""
    lines = [f"{audit.loss}({', '.join(audit.takes)})", ""]
    lines += [f"  {each}" for each in sentence(audit).replace(". ", ".\n").splitlines()]
    rows = [("compared with the gradient of", "scale", "angle", "in a word")]
    names = {**REWARDS, "off-policy": "the expected reward, off-policy", **PENALTIES}
    names["penalised-reward"] = f"the expected reward - {audit.beta or 0:.3g} KL(pi||ref)"
    for name, label in names.items():
        if name in audit.targets:
            found = audit.targets[name]
            rows.append((label.format(k=audit.group), scales(found), in_degrees(found), _word(found)))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    table = ["  ".join([*(row[k].ljust(widths[k]) for k in range(3)), row[3]]) for row in rows]
    return "\n".join([*lines, "", *table, "", *_notes(audit)])


def in_degrees(found: Comparisons) -> str:
    """Return the least and the largest angle of the comparisons in ``found`` as text, such as ``4 to 9°``.

    The angles are those between an expected gradient of a loss and its target, the gradient that it may be meant to
    have. If the angles have intervals, the text also has the largest upper limit, as in ``4 to 9°, at most 11°``.
    """
    limits = [each.angle_high for each in found if each.angle_high is not None]
    return f"{angles(found)}°" + (f", at most {format_bound(max(limits), ceil)}°" if limits else "")


def _word(found: Comparisons) -> str:
    """Return the worst word for scale and direction, and for how many policies it holds."""
    if all(each.scale == 0 for each in found):
        return "none"
    words = [each.direction for each in found]
    order = (Direction.POINTS_AWAY, Direction.TURNED, Direction.UNDECIDED, Direction.SCALED, Direction.UNBIASED)
    worst = next(word for word in order if word in words)
    count = words.count(worst)
    return str(worst) if count == len(words) else f"{worst} for {count} of {len(words)}"


def _notes(audit: Findings) -> list[str]:
    """Return the lines below the table: variance, pieces, and how the numbers came about."""
    out = []
    if known := [value for value in audit.variance if value is not None]:
        out.append(f"Variance at equal samples and equal scale: {_span(known, 2)} times that of RLOO.")
    if audit.prompts > 1:
        out.append(f"{audit.prompts} prompts in one batch or in {audit.prompts} micro-batches: {_in_pieces(audit)}.")
    seeds, distances = (sorted({getattr(p, key) for p in audit.points}) for key in ("seed", "distance"))
    kls, success = [p.kl for p in audit.points], [p for point in audit.points for p in point.success]
    unit = "groups of each prompt" if audit.factor is not None else "batches"
    how = f"Exact, over all {audit.batches:,} {unit}." if audit.is_exact else f"{audit.batches:,} sampled batches each."
    slow = audit.factor is None and not audit.is_vectorised and audit.batches <= FEWER
    return [
        *out,
        "",
        f"{len(audit.points)} policies: seeds {_listed(seeds)}; reference and older policy at the distances "
        f"{_listed(distances)}.",
        f"KL(pi||ref) is {_span(kls, 2)}. Rewards are 0 or 1, and p, the expected reward of a prompt, is "
        f"{_span(success, 2)}.",
        f"{audit.prompts} prompts, groups of {audit.group}, {audit.vocabulary} tokens, at most {audit.length} in a "
        f"sequence. {how}",
        *(["Each batch takes a call of the loss, without vmap: more --samples take longer."] if slow else []),
    ]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _in_pieces(audit: Findings) -> str:
    if audit.factor is None and not audit.pieces:
        return "the mean of the others is 0"
    if audit.factor is None:
        return f"the one is {scales(audit.pieces)} times the mean of the others, turned by {angles(audit.pieces)}°"
    if audit.factor == 1:
        return "no difference"
    return f"the one is {audit.factor:.3g} times the mean of the others"
