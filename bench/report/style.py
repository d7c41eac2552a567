"""One colour, marker and dash per estimator name, the same in every figure of every study.

A colour stands for a family of methods, a marker and its dash for a member. The colours are seaborn's ``colorblind``
palette without its two palest, which vanish on white. If two colours are hard to tell apart, the markers still differ.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Marker = str | tuple[int, int, int]

FAMILIES: dict[str, tuple[str, ...]] = {
    "#0173b2": ("score-function", "nvil", "", "antithetic-score-function"),
    "#56b4e9": ("rloo", "vimco", "grpo", "self-critical", "multi-sample", "pkpo"),
    "#029e73": (
        "reparameterization", "sticking-the-landing", "doubly-reparameterized", "generalized-reparameterization",
        "rejection-reparameterization", "", "", "hessian-control-variate", "quadratic-control-variate",
    ),
    "#de8f05": ("measure-valued", "stochastic-ad", "", "go"),
    "#d55e00": (
        "gumbel-softmax", "straight-through-gumbel-softmax", "straight-through", "reinmax", "gumbel-rao", "darn",
        "gapped-straight-through", "", "", "", "exponential-arrival", "simple",
    ),
    "#cc78bc": ("rebar", "relax", "muprop", "double-control-variate", "rodeo", "delta-method"),
    "#ca9161": ("disarm", "arm", "arms", "carms", "arsm", "bit-flip"),
    "#5f5f5f": (
        "enumeration", "local-expectation", "sum-and-sample", "unordered-set", "", "evolution-strategies", "spsa",
        "forward-gradient", "nested",
    ),
    "#949494": (
        "policy-gradient", "", "", "", "", "ppo", "remax", "opo", "optimal-token-baseline", "reinforce-plus-plus",
    ),
    "#a0522d": ("dr-grpo", "dapo", "gspo", "cispo"),
}  # fmt: skip
"""The estimators of each colour. A name's place decides its marker: fill a gap or append, but never reorder."""

MARKERS: tuple[Marker, ...] = ("o", "s", "^", "D", "v", "P", "X", "p", "*", "<", ">", "d")
GUEST_MARKERS: tuple[Marker, ...] = ("h", (4, 1, 0), "8", (3, 1, 0), (6, 1, 0))
"""Markers that no estimator of the catalogue has."""
GUEST_COLOURS = ("#111111", "#6a1b9a", "#7f6000", "#004d40", "#880e4f", "#33691e", "#1a237e", "#8b2500")
"""Dark colours that no family has: a user's own estimator is found at once."""
DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1, 1), (5, 1.5, 1, 1.5), (8, 2), (3, 1, 1, 1, 1, 1))


LINES = tuple(dashes if dashes != (1, 1) else (6, 1, 2, 1) for dashes in DASHES)
"""Dash patterns where dots mean something else."""
AGAIN: tuple[Marker, ...] = ("D", "X", "P", "v", "<")
"""Markers for estimators whose name already has a curve in the figure."""


class Style(NamedTuple):
    """The look of an estimator in the figures.

    Args:
        colour: hexadecimal RGB.
        marker: a matplotlib marker that can be filled or hollow. A hollow one means that the estimator may be biased.
        dashes: lengths of ink and gap in points; empty for a solid line.
    """

    colour: str
    marker: Marker
    dashes: tuple[float, ...]


def _member(colour: str, number: int) -> Style:
    return Style(colour, MARKERS[number % len(MARKERS)], DASHES[number % len(DASHES)])


# Each family starts at a marker of its own, so that the best known members differ in greyscale too.
_KNOWN = {
    name: _member(colour, first + place)
    for first, (colour, names) in enumerate(FAMILIES.items())
    for place, name in enumerate(names)
    if name
}
_GUESTS = [Style(c, marker, DASHES[i % len(DASHES)]) for i, marker in enumerate(GUEST_MARKERS) for c in GUEST_COLOURS]


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Return the style of each estimator, by name.

    A name that is not in ``FAMILIES``, such as a user's own estimator, is a guest. 40 styles are kept for guests, and a
    hash of the name chooses one. If a guest of the study has this style already, the next free one is taken. With more
    than 40 guests, styles repeat.
    """
    chosen = {name: _KNOWN[name] for name in names if name in _KNOWN}
    taken: set[int] = set()
    for name in sorted(set(names) - set(chosen)):
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        steps = ((start + step) % len(_GUESTS) for step in range(len(_GUESTS)))
        slot = next((s for s in steps if s not in taken), start % len(_GUESTS))
        taken.add(slot)
        chosen[name] = _GUESTS[slot]
    return chosen


def variants(names: Mapping[str, str]) -> dict[str, Style]:
    """Return the style of each estimator label: the style of the estimator's name, as a solid line.

    If several labels have one name, as ``rloo:n=2`` and ``rloo:n=4`` do, each label after the first has a dash and a
    marker of its own. ``names`` holds the estimator's name for each label.
    """
    of_name = styles(list(names.values()))
    chosen: dict[str, Style] = {}
    seen: dict[str, int] = {}
    for label, name in names.items():
        again = seen.get(name, 0)
        seen[name] = again + 1
        style = of_name[name]
        dashes = LINES[(DASHES.index(style.dashes) + again) % len(LINES)]
        marker = AGAIN[(again - 1) % len(AGAIN)] if again else style.marker
        chosen[label] = Style(style.colour, marker, dashes)
    return chosen


def order(names: Sequence[str]) -> list[str]:
    """Return the distinct ``names`` of estimators in the order of the legends.

    First come the names in ``FAMILIES``, which lists the estimators of this project by family, in the order of that
    list. All other names follow alphabetically.
    """
    places = {name: place for place, name in enumerate(_KNOWN)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))
