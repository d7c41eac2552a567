"""Comparison of two studies, or of two estimators of one study, cell by cell: the ratios of their variances."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from typing import Any

from bench.records.labels import labelled
from bench.records.lines import GIVEN, LineKind, Outcome
from bench.records.text import in_code, in_markdown, printable
from bench.report.aligned import plain_table
from bench.report.comment import Table, comment
from bench.report.figures.forest import Ratio
from bench.report.frame import setting_text
from bench.report.layout import broken, fitting
from bench.stats import ComparedRun, LogRatio, compare, format_interval, format_number, format_variance, holm, pool
from bench.stats.printing import NONE
from bench.stats.summary import BiasVerdict, finite

Record = Mapping[str, Any]
Pair = tuple[str, Record, Record]
"""A label and the two records that are compared."""
Variance = tuple[float | None, str]
"""A variance, None if the tail is heavy, and the variance with its interval as text."""
Group = tuple[str, list[tuple[Record, Record]]]
"""A label and the pairs of records whose ratios are one comparison: one pair, or one for each seed."""
SETTINGS = ("dtype", "device", "seed", "common_noise")
"""Keys of the settings that two runs must share to be compared within a study."""

HEADER = ("cell", "variance A", "variance B", "B/A (95 %)", "per evaluation", "noise", "verdict")
DROPPED_FIRST = ("noise", "per evaluation")
"""Columns that are left out on a narrow terminal, in this order, until the others fit."""
COLUMNS = ("cell", "variance A", "variance B", "B/A (95 %)", "per evaluation", "verdict")
"""Columns of a comparison in Markdown."""
WORDS = ("B lower", "B higher", "no difference seen", "same", "no variance to compare")
"""The results of a comparison in words, those first that readers look for."""
BIASED = (BiasVerdict.BIASED, BiasVerdict.DETERMINISTIC_BIASED)
"""Verdicts of a bias above 1 %, for which a lower variance does not make up."""
SIDES = {"B": "in B alone", "A": "in A alone", "both": "in both"}
"""The sides on which a bias was found, in words."""
MARGIN = 0.05
"""Largest relative difference of two variances that a figure shades, as what the gate lets pass."""
LEVEL = 0.05
"""Probability that a comparison without any true difference calls at least one cell different."""


class Unknown(Exception):
    """Raised if a label matches nothing that was measured; ``known`` lists the labels that can be used."""

    def __init__(self, label: str, known: Sequence[str]) -> None:
        super().__init__(f"{label!r} was not measured in this study.")
        self.label, self.known = label, known


@dataclass(frozen=True)
class Comparison:
    """A comparison of the variances of two measurements, a and b.

    The two are measurements of one cell (an estimator on an objective) in two studies, or of two cells in one study.

    Args:
        cell: name of what is compared: a cell or, if two estimators are compared, their objective.
        a: label of the cell that a measured, such as ``rloo:n=4 on gaussian-quadratic``.
        b: label of the cell that b measured.
        variance_a: variance of a; None if its tail is heavy.
        variance_b: variance of b; None if its tail is heavy.
        text_a: variance of a with its interval, as text.
        text_b: variance of b with its interval, as text.
        ratio: variance of b divided by variance of a, with its 95 % limits ``ratio_low`` and ``ratio_high``; None if a
            tail is heavy or nothing varies.
        per_evaluation: variance times evaluations of b, divided by that of a. Evaluations are those of f plus those of
            its gradient, per estimate. None if it is not defined.
        p: p-value of the hypothesis that both variances are equal, corrected over all comparisons (Holm); None if there
            is no ratio.
        noise: "same samples" if a and b have identical gradients, "paired" if they drew the same random numbers and
            were compared block by block, else "independent".
        word: the result in words, such as "B lower", "no difference seen" or "no variance to compare".
        seeds: number of seeds that were pooled; 1 if none were. If seeds were pooled, the variances are means over the
            seeds, weighted with the replicates, and so is the logarithm of the ratio.
        biased: the sides on which a bias above 1 % was found, "A", "B" or "both"; empty if it was found on none.
    """

    cell: str
    a: str
    b: str
    variance_a: float | None
    variance_b: float | None
    text_a: str
    text_b: str
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    per_evaluation: float | None
    p: float | None
    noise: str
    word: str
    seeds: int = 1
    biased: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary by their names."""
        return asdict(self)


def of_studies(
    a: Sequence[Record], b: Sequence[Record], *, pooled: bool = False
) -> tuple[list[Comparison], list[str], list[str]]:
    """Return the comparisons of two studies, and the labels of the measurements that have no partner.

    Each cell (estimator on objective) that both studies measured in one dtype is compared. If a study measured a cell
    more than once, measurements with equal settings and equal numbers of replicates are compared. If no two are equal
    in this way, the two that have the most in common are compared.

    If ``pooled``, all seeds of a cell are one comparison. If a study measured a cell with one seed more than once, the
    measurement with the most replicates counts. Two measurements with the same seed, one of each study, form a pair.
    The other measurements of the two studies are then paired in the order of their replicates, the fewest first.

    Args:
        a: the records of the first study.
        b: the records of the second study.
        pooled: whether to pool the seeds of a cell.

    Returns:
        The comparisons, the labels of the measurements of ``a`` that were not compared, and those of ``b``.
    """
    both = labelled([*a, *b])
    first, second = _by_cell(both[: len(a)]), _by_cell(both[len(a) :])
    match = _matching_seeds if pooled else _matching
    pairs = [(_label(x), x, y) for key in first if key in second for x, y in match(first[key], second[key])]
    left, right = [x for _, x, _ in pairs], [y for _, _, y in pairs]
    mine, theirs = (_measured(records) for records in (both[: len(a)], both[len(a) :]))
    only = _only(mine, theirs, left, _label), _only(theirs, mine, right, _label)
    return _compared(_grouped(pairs, pooled=pooled)), *only


def of_estimators(
    records: Sequence[Record], a: str, b: str, names: Callable[[str, Record], bool], *, pooled: bool = False
) -> tuple[list[Comparison], list[str], list[str]]:
    """Return the comparisons of two estimators, and the labels of their measurements that have no partner.

    There is one comparison for each objective on which both estimators were measured with equal settings. If ``a`` and
    ``b`` name cells (estimators on objectives), the two cells are compared; their objectives may differ.

    Args:
        records: the records of one study.
        a: an estimator, such as ``rloo:n=4``, or a cell, such as ``rloo:n=4 on gaussian-quadratic``.
        b: the other estimator or cell.
        names: ``names(text, record)`` tells whether a text such as ``a`` names the estimator or the cell of a record.
        pooled: whether measurements that differ only in the seed are one comparison.

    Returns:
        The comparisons, the labels of the measurements of ``a`` that were not compared, and those of ``b``.

    Raises:
        Unknown: ``a`` or ``b`` names nothing that was measured.
    """
    first, second = _named(records, a, names), _named(records, b, names)
    by_objective = " on " not in a and " on " not in b
    pairs = []
    for x in first:
        rivals = [y for y in second if _settings(x) == _settings(y)]
        if by_objective:
            rivals = [y for y in rivals if _is_one_problem(x, y)]
        if rivals:
            y = max(rivals, key=lambda y: (y["replicates"] == x["replicates"], y["replicates"]))
            pairs.append((x["objective"] if by_objective else f"{_label(x)}, {_label(y)}", x, y))
    left, right = [x for _, x, _ in pairs], [y for _, _, y in pairs]
    objective = itemgetter("objective") if by_objective else lambda _: ""
    only = _only(first, second, left, objective), _only(second, first, right, objective)
    return _compared(_grouped(pairs, pooled=pooled)), *only


def verdict(found: Sequence[Comparison]) -> str:
    """Return the result of all comparisons in a sentence: ``Of 12 cells: B has the lower variance in 3, ...``."""
    by = {word: [each for each in found if each.word == word] for word in WORDS}
    parts = []
    for word, far in (("B lower", min), ("B higher", max)):
        if by[word]:
            most = far(by[word], key=lambda each: each.ratio or 1.0)
            at = f"times {format_number(most.ratio, 3)}, {most.cell}"
            side = word.removeprefix("B ")
            parts.append(
                f"the {side} variance in {len(by[word])} ({'the farthest: ' if len(by[word]) > 1 else ''}{at})"
            )
    alone = sum(c.ratio_low is not None and (c.ratio_low > 1 or (c.ratio_high or 1) < 1) for c in by[WORDS[2]])
    among = (
        f" (intervals without 1 among them: {alone}; the error rate of 5 % is that of all {len(found)} cells together)"
    )
    ends = (
        "no difference was seen in {}" + (among if alone else ""),
        "the samples are the same in {}",
        "there is no variance to compare in {}",
    )
    parts = [f"B has {' and '.join(parts)}"] if parts else []
    parts += [end.format(len(by[word])) for end, word in zip(ends, WORDS[2:], strict=True) if by[word]]
    found_in = {side: sum(each.biased == side for each in found) for side in SIDES}
    parts += [f"a bias was found {said} in {found_in[side]}" for side, said in SIDES.items() if found_in[side]]
    return f"Of {len(found)} cell{'' if len(found) == 1 else 's'}: {'; '.join(parts)}."


def markdown(a: str, b: str, found: Sequence[Comparison], only: Sequence[Sequence[str]]) -> str:
    """Return comparisons as a comment for a pull request. A table shows what differs; everything else is folded.

    Args:
        a: the name of side A in the comment.
        b: the name of side B.
        found: the comparisons.
        only: the labels of the measurements of A that were not compared, and those of B.
    """
    differing, others = list[list[str]](), list[list[str]]()
    for c in found:
        row = [_code(c.cell), c.text_a, c.text_b, _ratio_text(c), format_number(c.per_evaluation, 3)]
        how = "" if c.word == "same" else f" ({c.noise}{f', {c.seeds} seeds' if c.seeds > 1 else ''})"
        said, differs = f"{_said(c)}{how}", c.word in WORDS[:2] or c.biased in ("A", "B")
        (differing if differs else others).append([*row, f"**{said}**" if differs else said])
    title = (
        f"### `bench compare`: {in_markdown(verdict(found))}\n\nA: {in_code(printable(a))}, B: {in_code(printable(b))}"
    )
    tables = [Table(COLUMNS, differing), Table(COLUMNS, others, f"{len(others):,} without a difference")]
    for name, labels in zip("AB", only, strict=True):
        tables.append(Table(["cell"], [[_code(label)] for label in labels], f"{len(labels):,} only in {name}"))
    return comment(title, tables)


def ratios(found: Sequence[Comparison]) -> list[Ratio]:
    """Return the ratios of variances of comparisons, with their intervals, as the rows of a chart.

    A ratio is the variance of b, divided by the variance of a. Comparisons without a ratio are left out.
    """
    return [
        Ratio(c.cell, c.ratio, c.ratio_low or 0.0, c.ratio_high, c.word in WORDS[:2])
        for c in found
        if c.ratio is not None
    ]


def _said(c: Comparison) -> str:
    return f"{c.word}, {c.biased} biased" if c.biased else c.word


def _code(label: str) -> str:
    return in_code(label).replace("|", "\\|")


def _ratio_text(c: Comparison) -> str:
    return NONE if c.ratio is None else f"{format_number(c.ratio, 3)} {format_interval(c.ratio_low, c.ratio_high)}"


def table(found: Sequence[Comparison], width: int = 1000) -> str:
    """Return comparisons as a text table in lines of at most ``width`` characters, with one row per comparison."""
    rows = []
    for c in found:
        cell = f"{c.cell} ({c.seeds} seeds)" if c.seeds > 1 else c.cell
        per_evaluation = format_number(c.per_evaluation, 3)
        rows.append([cell, c.text_a, c.text_b, _ratio_text(c), per_evaluation, c.noise, _said(c)])
    room = width - len(HEADER)  # two spaces are between columns
    kept = fitting(HEADER, rows, room, DROPPED_FIRST, dict.fromkeys(HEADER, 12) | {"cell": 26})
    shown = [[broken(cell, kept[name]) for name, cell in zip(HEADER, row, strict=True) if name in kept] for row in rows]
    text = plain_table([broken(*column) for column in kept.items()], shown)
    dropped = [name for name in HEADER if name not in kept]
    return f"{text}\n\ntoo narrow for {', '.join(dropped)}; --json has all" if dropped else text


def _by_cell(records: Iterable[Record]) -> dict[tuple[str, ...], list[Record]]:
    found: dict[tuple[str, ...], list[Record]] = {}
    for r in _measured(records):
        found.setdefault((r["cell"], r["dtype"]), []).append(r)
    return found


def _measured(records: Iterable[Record]) -> list[Record]:
    return [r for r in records if r["kind"] == LineKind.MOMENTS and r["outcome"] == Outcome.MEASURED]


def _label(record: Record) -> str:
    return f"{record['estimator']} on {record['objective']}"


def _only(
    mine: Sequence[Record], theirs: Sequence[Record], compared: Sequence[Record], alike: Callable[[Record], str]
) -> list[str]:
    """Return the labels of the runs of a side that were not compared; a cell of which none was has one label.

    Where the other side has runs that ``alike`` gives the same text, the labels say in which settings the runs differ.
    """
    taken, by_label, others = {id(record) for record in compared}, dict[str, list[Record]](), dict[str, list[Record]]()
    if taken.issuperset(map(id, mine)):
        return []
    for run in mine:
        by_label.setdefault(_label(run), []).append(run)
    for run in theirs:
        others.setdefault(alike(run), []).append(run)
    out = []
    for label, runs in by_label.items():
        left, both = [run for run in runs if id(run) not in taken], [*runs, *others.get(alike(runs[0]), [])]
        out += [label] if len(left) == len(both) else [_apart(label, run, both) for run in left]
    return out


def _settings(record: Record) -> tuple[Any, ...]:
    return tuple(record[key] for key in SETTINGS)


def _told_apart(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs; where several have one label, each is named with the settings that differ between them."""
    alike: dict[str, list[Record]] = {}
    for label, x, _ in pairs:
        alike.setdefault(label, []).append(x)
    return [(_apart(label, x, alike[label]), x, y) for label, x, y in pairs]


def _apart(label: str, record: Record, alike: Sequence[Record]) -> str:
    """Return a label with the record's settings and replicates, as far as they vary among the records alike."""
    if len(alike) == 1:
        return label
    parts = [setting_text(key, record[key]) for key in SETTINGS if len({each[key] for each in alike}) > 1]
    parts += [f"R={record['replicates']:,}"] if len({each["replicates"] for each in alike}) > 1 else []
    return f"{label} ({', '.join(parts)})" if parts else label


def _matching(a: Sequence[Record], b: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Return the pairs of runs that agree in settings and replicates or, without any, the pair with most in common."""

    def likeness(pair: tuple[Record, Record]) -> tuple[bool, bool, int]:
        x, y = pair
        return _settings(x) == _settings(y), x["replicates"] == y["replicates"], x["replicates"] + y["replicates"]

    pairs = [(x, y) for x in a for y in b]
    if len(pairs) == 1:
        return pairs
    return [pair for pair in pairs if likeness(pair)[:2] == (True, True)] or [max(pairs, key=likeness)]


def _matching_seeds(a: Sequence[Record], b: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Return pairs of runs, each of another seed: those with equal seeds, and the others in their order."""
    first, second = _by_seed(a), _by_seed(b)
    both = [seed for seed in first if seed in second]
    rest = zip((s for s in first if s not in both), (s for s in second if s not in both), strict=False)
    return [(first[x], second[y]) for x, y in (*zip(both, both, strict=True), *rest)]


def _by_seed(runs: Sequence[Record]) -> dict[int, Record]:
    """Return the run of each seed; of several, the one with the most replicates."""
    return {run["seed"]: run for run in sorted(runs, key=lambda run: run["replicates"])}


def _grouped(pairs: Sequence[Pair], *, pooled: bool) -> list[Group]:
    """Return the pairs as comparisons: one for each or, if ``pooled``, one for all seeds that are alike otherwise."""
    if not pooled:
        return [(label, [(x, y)]) for label, x, y in _told_apart(pairs)]
    alike: dict[tuple[Any, ...], list[tuple[Record, Record]]] = {}
    for label, x, y in pairs:
        key = (label, x["cell"], y["cell"], *(run[k] for run in (x, y) for k in SETTINGS if k != "seed"))
        alike.setdefault(key, []).append((x, y))
    first = []
    for held in alike.values():  # of several pairs with one seed, that with the most replicates
        by_seed = {x["seed"]: (x, y) for x, y in sorted(held, key=lambda pair: pair[0]["replicates"])}
        first.append([*by_seed.values()])
    named = _told_apart([(key[0], *group[0]) for key, group in zip(alike, first, strict=True)])
    return [(label, group) for (label, *_), group in zip(named, first, strict=True)]


def _named(records: Sequence[Record], label: str, names: Callable[[str, Record], bool]) -> list[Record]:
    held = _measured(records)
    measured = labelled(held)
    found: list[Record] = [shown for r, shown in zip(held, measured, strict=True) if names(label, r)]
    if not found:
        raise Unknown(label, [*dict.fromkeys(name for r in measured for name in (r["estimator"], _label(r)))])
    return found


def _is_one_problem(a: Record, b: Record) -> bool:
    """Tell whether two runs are of one objective, with the same data and gradients of one size.

    Gradients that were made elsewhere may lack the exact gradient, which is part of what an objective reads.
    """
    data, others = (record.get("objective_contents") or {} for record in (a, b))
    same_data = all(data[name] == others[name] for name in data.keys() & others.keys())
    return bool(a["objective"] == b["objective"] and a["size"] == b["size"] and same_data)


def _share_noise(a: Record, b: Record) -> bool:
    """Tell whether two runs drew the same random numbers: with one objective, one seed and one torch.

    Nobody knows the random numbers of gradients that were made elsewhere.
    """
    same = _settings(a) == _settings(b) and a["objective"] == b["objective"] and a["family"] != GIVEN
    made = all(a["environment"].get(key) == b["environment"].get(key) for key in ("torch", "cpu_capability"))
    return bool(same and made and (a["common_noise"] or a["cell"] == b["cell"]))


def _variance(record: Record, run: ComparedRun) -> Variance:
    """Return a variance, also as text; a deterministic estimator varies by rounding alone, which counts as 0."""
    return (0.0, "0") if record["deterministic"] else (run.summary.variance, format_variance(run.summary))


def _compared(groups: Sequence[Group]) -> list[Comparison]:
    found = [(*_result(pairs), cell, pairs) for cell, pairs in groups]
    p = {str(i): ratio.p for i, (ratio, *_) in enumerate(found) if ratio is not None}
    adjusted = holm(p, cells=len(p), alpha=LEVEL)
    out = []
    for i, (ratio, sides, cell, pairs) in enumerate(found):
        a, b = pairs[0]
        differs, corrected = adjusted.get(str(i), (False, None))
        same = all(_is_same(x, y) for x, y in pairs)
        value, low, high = (None, None, None) if ratio is None else (finite(x) for x in ratio.ratio)
        costs = [r["f_evals"] + r["grad_evals"] for r in (a, b)]
        per_evaluation = None if value is None or not costs[0] else value * costs[1] / costs[0]
        if ratio is None:
            word = "no variance to compare"
        elif differs:
            word = "B lower" if ratio.value < 0 else "B higher"
        else:
            word = "same" if same else "no difference seen"
        noise = "same samples" if same else "paired" if ratio is not None and ratio.paired else "independent"
        (first, first_text), (second, second_text) = sides
        texts = (cell, _label(a), _label(b), first, second, first_text, second_text)
        numbers = (value, low, high, per_evaluation, corrected)
        out.append(Comparison(*texts, *numbers, noise, word, len(pairs), _biased(pairs)))
    return out


def _biased(pairs: Sequence[tuple[Record, Record]]) -> str:
    """Return the sides of pairs of records on which a bias above 1 % was found: "A", "B", "both" or none."""
    a, b = (any(pair[side]["summary"]["verdict"] in BIASED for pair in pairs) for side in (0, 1))
    return "both" if a and b else "A" if a else "B" if b else ""


def _is_same(a: Record, b: Record) -> bool:
    """Return whether two runs drew identical gradients."""
    return a.get("fingerprint") is not None and all(a[key] == b.get(key) for key in ("fingerprint", "replicates"))


def _result(pairs: Sequence[tuple[Record, Record]]) -> tuple[LogRatio | None, tuple[Variance, Variance]]:
    """Return the log ratio of the variances of b and a, pooled over the pairs, and the two variances."""
    found = [_ratio(a, b) for a, b in pairs]
    if len(found) == 1:
        return found[0]
    ratios = [ratio for ratio, _ in found if ratio is not None]
    weights = [min(a["replicates"], b["replicates"]) for a, b in pairs]
    pooled = pool(ratios, weights) if len(ratios) == len(pairs) else None
    if pooled is None:
        return None, found[0][1]
    first, second = (
        sum(weight * pair[side]["summary"]["variance"] for weight, pair in zip(weights, pairs, strict=True))
        / sum(weights)
        for side in (0, 1)
    )
    return pooled, ((first, format_number(first, 3)), (second, format_number(second, 3)))


def _ratio(a: Record, b: Record) -> tuple[LogRatio | None, tuple[Variance, Variance]]:
    """Return the log ratio of the variances of b and a, if both vary and have one, and the two variances."""
    x, y = ComparedRun.of(a), ComparedRun.of(b)
    varies = x.is_comparable and y.is_comparable and not (a["deterministic"] or b["deterministic"])
    ratio = compare(y, x, common=_share_noise(a, b)) if varies else None
    if ratio is not None and ratio.value == 0 and _is_same(a, b):
        ratio = replace(ratio, se=0.0, low=0.0, high=0.0, p=1.0)  # however few the blocks are
    return ratio, (_variance(a, x), _variance(b, y))
