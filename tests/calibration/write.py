"""The tables and the figure of the study: our figures, the expected ones, and their differences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from bench.report.aligned import markdown_table
from bench.stats.summary import Status
from bench.stats.variance import TAIL_REPLICATES
from tests.calibration import accusations, adaptive, coverage, direction, expected, gate, levels, long
from tests.calibration.laws import LAWS

Results = dict[tuple[Any, ...], Any]
SIZES = {1_000: "1e3", 10_000: "1e4"}
VECTOR_RUNS = 2_000
"""Approximate number of runs behind the expected rejections of the three-part test."""


def standard_error(rate: float, runs: int) -> float:
    """Return the standard error of a rate in percentage points; zero events count as half an event."""
    p = min(max(rate, 0.5 / runs), 1 - 0.5 / runs)
    return 100 * math.sqrt(p * (1 - p) / runs)


def score(ours: float, runs: int, theirs: float, their_runs: int) -> float:
    """Return the difference of two rates in standard errors; `theirs` is a whole number of percent."""
    pooled = (ours * runs + theirs / 100 * their_runs) / (runs + their_runs)
    error = math.hypot(standard_error(pooled, runs), standard_error(pooled, their_runs), expected.ROUNDING)
    return (100 * ours - theirs) / error


def percent(rate: float, runs: int) -> str:
    """Return ``96.1 ± 0.3`` in percent, with a standard error."""
    return "–" if math.isnan(rate) else f"{100 * rate:.1f} ± {standard_error(rate, runs):.1f}"


def coverage_frame(results: Results) -> pd.DataFrame:
    rows = []
    for law in LAWS:
        for place, R in enumerate(SIZES):
            row = coverage.summary(law, R, results["coverage", law.name, R])
            runs = int(row["runs"])  # type: ignore[call-overload]
            their = expected.COVERAGE.get(law.name)
            if their is not None:
                row |= {"expected": their[place], "z": score(row["covered"], runs, their[place], expected.RUNS[R])}  # type: ignore[arg-type]
            for key, value in zip(
                ("khat_half", "khat_heavy", "khat_infinite"),
                expected.TAILS[law.name][place] if law.name in expected.TAILS else (),
                strict=False,
            ):
                row |= {f"{key}_expected": value, f"{key}_z": score(row[key], runs, value, expected.RUNS[R])}  # type: ignore[arg-type]
            rows.append(row)
    return pd.DataFrame(rows)


def levels_frame(results: Results) -> pd.DataFrame:
    rows = []
    for key, columns in results.items():
        if key[0] not in ("levels", "sums"):
            continue
        runs = round(sum(columns["runs"]))
        for level in levels.NOMINAL:
            count = round(sum(columns[f"{level:g}"]))
            test = "sum test alone" if key[0] == "sums" else "three parts" if key[2] > 1 else "scalar test"
            rows.append(
                {
                    "test": test,
                    "law": key[1],
                    "D": key[2],
                    "runs": runs,
                    "nominal": level,
                    "rejections": count,
                    "rate": count / runs,
                    "over_nominal": count / runs / level,
                    "se": math.sqrt(max(count, 1)) / runs / level,
                }
            )
    return pd.DataFrame(rows)


def adaptive_frame(results: Results) -> pd.DataFrame:
    by_name = {law.name: law for law in adaptive.LAWS}
    rows = [adaptive.summary(by_name[key[1]], columns) for key, columns in results.items() if key[0] == "adaptive"]
    return pd.DataFrame(rows)


def accusations_frame(results: Results) -> pd.DataFrame:
    by_name = {law.name: law for law in (*accusations.FINITE, *accusations.INFINITE)}
    keys = [(name, R) for name in by_name for R in accusations.SIZES]
    return pd.DataFrame([accusations.summary(by_name[name], results["accusations", name, R]) for name, R in keys])


def long_frame(results: Results) -> pd.DataFrame:
    return pd.DataFrame([long.summary(law, results["long", law.name]) for law in long.LAWS])


def direction_frame(results: Results) -> pd.DataFrame:
    return pd.DataFrame(
        [row for law in direction.LAWS for row in direction.summary(law, results["direction", law.name])]
    )


def null_frame(results: Results) -> tuple[pd.DataFrame, list[list[Any]]]:
    cases = [found for key, found in results.items() if key[0] == "null"]
    suites = gate.suites_of(cases)
    rows = []
    for each in cases:
        flagged = [case.second is not None for case in each]
        first = each[0]
        rows.append(
            {
                "cell": first.label,
                "cv2": first.entry.cv2,
                "khat": first.entry.khat,
                "cases": len(each),
                "confirmed_rate": sum(flagged) / len(each),
            }
        )
    return pd.DataFrame(rows), suites


def everything(folder: Path, results: Results, time_taken: Sequence[dict[str, object]]) -> str:
    """Write ``*.csv``, ``table.md`` and the figure; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    covered, level, adapted = coverage_frame(results), levels_frame(results), adaptive_frame(results)
    accused, lengthy, directed = accusations_frame(results), long_frame(results), direction_frame(results)
    null, suites = null_frame(results)
    power = pd.DataFrame([row for key, rows in results.items() if key[0] == "power" for row in rows])
    overhead = pd.DataFrame(time_taken)
    frames = {
        "coverage": covered,
        "accusations": accused,
        "levels": level,
        "adaptive": adapted,
        "long": lengthy,
        "direction": directed,
        "gate-null": null,
        "gate-power": power,
        "overhead": overhead,
    }
    for name, frame in frames.items():
        to_csv(frame, folder, name)
    text = "\n\n".join(
        [
            "# Calibration",
            *variance_text(covered),
            *tail_text(covered),
            *accusations_text(accused),
            *bias_text(covered, level),
            *direction_text(directed),
            *adaptive_text(adapted),
            *long_text(lengthy),
            *gate_text(null, suites, power),
            *overhead_text(overhead),
        ]
    )
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    figure(covered, folder)
    return text


PARTS = ("coverage", "accusations", "long", "direction")
"""Parts of the study that can be made alone."""


def parts(folder: Path, results: Results, chosen: Sequence[str]) -> str:
    """Write the tables of the chosen parts, and put their sections into ``table.md``; return its text."""
    covered = coverage_frame(results) if "coverage" in chosen else None
    frames, texts = {} if covered is None else {"coverage": covered}, []
    if covered is not None:
        level = pd.read_csv(folder / "levels.csv")
        texts += [variance_text(covered), tail_text(covered), bias_text(covered, level)]
        figure(covered, folder)
    if "accusations" in chosen:
        frames["accusations"] = accusations_frame(results)
        texts.append(accusations_text(frames["accusations"]))
    if "long" in chosen:
        frames["long"] = long_frame(results)
        texts.append(long_text(frames["long"]))
    if "direction" in chosen:
        frames["direction"] = direction_frame(results)
        texts.append(direction_text(frames["direction"]))
    for name, frame in frames.items():
        to_csv(frame, folder, name)
    path = folder / "table.md"
    title, *old = path.read_text(encoding="utf-8").rstrip("\n").split("\n\n## ")
    sections = {text.partition("\n")[0]: text for text in old}
    for text in ("\n\n".join(pieces).removeprefix("## ") for pieces in texts):
        sections[text.partition("\n")[0]] = text
    joined = "\n\n## ".join([title, *(sections[name] for name in sorted(sections, key=ORDER.index))])
    path.write_text(joined + "\n", encoding="utf-8")
    return joined


ORDER = (
    "The 95 % interval of the variance", "The tail index", "Accusations", "The bias", "Scale and direction",
    "Replicates from a target", "Long runs", "The gate", "What the statistics cost",
)  # fmt: skip
"""The sections of the table in their order."""


def to_csv(frame: pd.DataFrame, folder: Path, name: str) -> None:
    frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return markdown_table(header, [list(map(str, row)) for row in rows], header)


def laws_text() -> str:
    return "\n".join(f"- **{law.name}**: {law.says}" for law in LAWS)


def _z(row: Any, key: str = "z") -> str:
    value = row.get(key)
    return "" if value is None or math.isnan(value) else f"{value:+.1f}"


def _agreement(scores: pd.Series[float]) -> str:
    return (
        f"Of {len(scores)} comparisons {(scores.abs() > 2).sum()} differ by more than 2 standard errors, "
        f"the largest by {scores.abs().max():.1f}."
    )


def variance_text(covered: pd.DataFrame) -> list[str]:
    rows = []
    for name, group in covered.groupby("law", sort=False):
        cells: list[object] = [name]
        for _, r in group.iterrows():
            theirs = "" if math.isnan(r["expected"]) else f"{r['expected']:.0f}"
            width = "∞" if math.isinf(r["median_half_width"]) else f"{100 * r['median_half_width']:.2g}"
            cells += [percent(r["covered"], r["runs"]), theirs, _z(r), percent(r["below"], r["runs"]), width]
        rows.append(cells)
    header = ["law"]
    for R in SIZES.values():
        header += [f"covered, R = {R}", "expected", "z", "V < L", "± % (median)"]
    scores = covered["z"].dropna()
    return [
        "## The 95 % interval of the variance",
        "Percent of runs, with a Monte Carlo standard error. *expected*: the result of the simulations from which the "
        "procedure was chosen. *z*: the difference over its standard error, which includes the errors of both sides "
        "and the rounding. *V < L*: the lower end alone is wrong (nominal 2.5). The half-width is relative; ∞ means "
        "that most runs print no upper end.",
        table(header, rows),
        laws_text(),
        _agreement(scores),
    ]


def tail_text(covered: pd.DataFrame) -> list[str]:
    rows = []
    keys = ("khat_half", "khat_heavy", "khat_infinite")
    for name, group in covered.groupby("law", sort=False):
        cells: list[object] = [name]
        for _, r in group.iterrows():
            for key in keys:
                theirs = r[f"{key}_expected"]
                beside = "" if math.isnan(theirs) else f" ({theirs:g}, z {_z(r, f'{key}_z')})"
                cells.append(f"{100 * r[key]:.1f}{beside}")
        rows.append(cells)
    header = ["law", *(f"k̂ ≥ {k}, R = {R}" for R in SIZES.values() for k in (0.5, 0.7, 1))]
    scores = pd.concat([covered[f"{key}_z"].dropna() for key in keys])
    infinite = covered[covered["law"] == "IW.45"]
    escapes = ", ".join(f"{100 * (1 - r['khat_heavy']):.1f} % at R = {SIZES[r['R']]}" for _, r in infinite.iterrows())
    return [
        "## The tail index",
        "Percent of runs with a tail index at or above .5 (a warning), .7 (no upper limit) and 1; "
        "the expected percentage is in brackets.",
        table(header, rows),
        f"{_agreement(scores)} An infinite variance (IW.45) gets two limits in some runs: {escapes}.",
    ]


def accusations_text(accused: pd.DataFrame) -> list[str]:
    infinite, heavy = str(Status.INFINITE_VARIANCE_SUSPECTED), str(Status.HEAVY_TAIL)
    said = {law.name: law.says for law in (*accusations.FINITE, *accusations.INFINITE)}
    rows, finite = [], accused[accused["finite"]]
    for name, group in accused.groupby("law", sort=False):
        cells: list[object] = [name, "finite" if group["finite"].iloc[0] else "infinite"]
        for _, r in group.iterrows():
            cells.append(f"{percent(r[infinite], r['runs'])} ({100 * r[f'point_{infinite}']:.0f})")
            cells.append(
                f"{percent(r[heavy], r['runs'])} ({100 * r[f'point_{heavy}'] - 100 * r[f'point_{infinite}']:.0f})"
            )
            cells.append(f"{100 * r['two_limits']:.1f}")
        rows.append(cells)
    header = ["law", "variance"]
    for R in accusations.SIZES.values():
        header += [f"infinite, R = {R}", "heavy", "two limits"]
    most = finite.loc[finite[infinite].idxmax()]
    return [
        "## Accusations",
        "Percent of runs whose status is INFINITE_VARIANCE_SUSPECTED or HEAVY_TAIL, with a Monte Carlo standard error. "
        "In brackets: the percentage if a tail index at or above 1, or from .7 to 1, were enough. *two limits*: the "
        "percentage of runs with an upper limit of the variance. The level of the test is 5 %; with fewer than "
        f"{TAIL_REPLICATES:,} replicates no tail is accused.",
        table(header, rows),
        "\n".join(f"- **{name}**: {words}" for name, words in said.items()),
        f"A finite variance is called infinite in at most {100 * most[infinite]:.1f} % of runs "
        f"({most['law']}, R = {most['R']:,}).",
    ]


def bias_text(covered: pd.DataFrame, level: pd.DataFrame) -> list[str]:
    rows = []
    for name, group in covered.groupby("law", sort=False):
        cells: list[object] = [name]
        for _, r in group.iterrows():
            cells += [percent(r[key], r["runs"]) for key in ("biased", "p_05", "p_01")]
            cells.append(percent(r["missed"], r["missed_of"]))
            cells.append(percent(r["missed_printed"], max(r["missed_printed_of"], 1)) if r["khat_infinite"] else "")
        rows.append(cells)
    header = ["law"]
    for R in SIZES.values():
        header += [f"called biased, R = {R}", "p ≤ .05", "p ≤ .01", "bound missed", "index < 1"]
    steps = []
    for (test, name, size), group in level.groupby(["test", "law", "D"], sort=False):
        cells = [test, name, size, f"{group['runs'].iloc[0]:,}"]
        cells += [f"{r.over_nominal:.2f} ± {r.se:.2f}" for r in group.itertuples()]
        far = group[group["nominal"] == 1e-4].iloc[0]
        theirs = expected.FAR_TAIL.get(name) if test == "scalar test" else None
        if theirs is not None:
            # their rate rests on about as many runs as ours
            error = max(math.hypot(far["se"], math.sqrt(max(theirs, 0.1) * 1e-4 / far["runs"]) / 1e-4), 1e-9)
            cells.append(f"{theirs:g} at 1e-4, z {(far['over_nominal'] - theirs) / error:+.1f}")
        elif name in expected.VECTOR:
            said = expected.VECTOR[name]
            scores = [
                score(r.rate, r.runs, said[r.nominal], VECTOR_RUNS) for r in group.itertuples() if r.nominal >= 0.01
            ]
            cells.append(f"{said[0.05] / 5:.2g}, {said[0.01]:.2g}; z {', '.join(f'{z:+.1f}' for z in scores)}")
        elif test == "sum test alone":
            cells.append("at most " + "/".join(f"{v:g}" for v in expected.SUM_TEST.values()))
        else:
            cells.append("")
        steps.append(cells)
    nominal = [f"at {v:g}" for v in levels.NOMINAL]
    return [
        "## The bias",
        "Laws without a bias. *called biased*: the verdict, at level 0.001. *bound missed*: a bias of several standard "
        "errors was added, and the 95 % upper bound lay below it (the worse of two sides or directions). "
        "*index < 1*: the misses among runs with a tail index below 1. The bound is printed unless the variance is "
        "called infinite. "
        f"Expected: at most {expected.MISSED_ONE} for D = 1, "
        f"{expected.MISSED_MANY} for more.",
        table(header, rows),
        f"Rejections far out: the rate over the nominal one, with its standard error, for runs of {levels.ROWS:,} "
        f"replicates in {levels.BLOCKS} blocks, or for block sums alone. Above 1 the test rejects too often.",
        table(["test", "law", "D", "runs", *nominal, "expected"], steps),
    ]


def adaptive_text(adapted: pd.DataFrame) -> list[str]:
    rows = []
    for r in adapted.itertuples():
        theirs, ratio = expected.ADAPTIVE[r.law]
        z = score(r.covered, r.runs, theirs, 300)
        rows.append(
            [
                r.law,
                f"{r.median_replicates:,.0f}",
                percent(r.reached, r.runs),
                percent(r.covered, r.runs),
                f"{theirs:g}, z {z:+.1f}",
                f"{r.ratio:.3f} ± {r.ratio_se:.3f}" + ("" if ratio is None else f" ({ratio:g})"),
                percent(r.pilot_covered, r.runs),
                f"{r.pilot_ratio:.3f}",
            ]
        )
    first = adapted.iloc[0]
    header = ["law", "R (median)", "reached", "covered", "expected", "mean V̂/V", "pilot covered", "pilot V̂/V"]
    return [
        "## Replicates from a target",
        f"A target of ±{100 * first['target']:g} %, at most {first['max_replicates']:,.0f} replicates, "
        f"{first['runs']:,} studies. The published figures come from a fresh run. *pilot*: the figures of the pilot "
        "that planned the run, which stops when it looks precise.",
        table(header, rows),
    ]


def long_text(lengthy: pd.DataFrame) -> list[str]:
    first = lengthy.iloc[0]
    rows = [
        [
            r["law"],
            percent(r["covered"], r["runs"]),
            percent(r["below"], r["runs"]),
            "∞" if math.isinf(r["median_half_width"]) else f"{100 * r['median_half_width']:.2g}",
            percent(r["mse_covered"], r["runs"]),
            percent(r["biased"], r["runs"]),
        ]
        for _, r in lengthy.iterrows()
    ]
    return [
        "## Long runs",
        f"Percent of {first['runs']:,} runs of {first['R']:,} replicates, of which {first['followed']:,} are tracked "
        "row by row. The other replicates give no skewness and kurtosis of the squared norms, and of the error only "
        "the means of blocks. *V < L*: the lower end alone is wrong (nominal 2.5).",
        table(
            ["law", "variance covered", "V < L", "± % (median)", "mean squared error covered", "called biased"], rows
        ),
    ]


def direction_text(directed: pd.DataFrame) -> list[str]:
    rows = [
        [
            r["law"],
            r["case"],
            r["against"],
            *(percent(r[key], r["runs"]) for key in direction.RATES),
            f"{r['median_upper']:.1f}°",
        ]
        for _, r in directed.iterrows()
    ]
    cases = ", ".join(f"{case}: scale {scale:g}, angle {angle:g}°" for case, (scale, angle) in direction.CASES.items())
    header = [
        "law", "case", "against", "scale covered", "p ≤ .05", "p ≤ .01", "wrong word", "upper limit holds",
        "lower limit holds", "upper limit (median)",
    ]  # fmt: skip
    return [
        "## Scale and direction",
        f"Percent of {directed['runs'].iloc[0]:,} runs of {direction.REPLICATES:,} replicates, with a Monte Carlo "
        "standard error. The exact gradient is a third as long as the standard deviation of one gradient. "
        f"*case*: {cases}. *against*: the exact gradient, or a reference of {direction.REFERENCE:,} replicates of the "
        "same law. *p*: the test of the direction. *wrong word*: a word that is false, such as *scaled* or *turned* "
        "for an unbiased law. The limits are those of the angle.",
        table(header, rows),
    ]


def gate_text(null: pd.DataFrame, suites: list[list[Any]], power: pd.DataFrame) -> list[str]:
    alarms = sum(any(finding.fails for finding in suite) for suite in suites)
    words = Counter(str(finding.verdict) for suite in suites for finding in suite)
    said = ", ".join(f"{count:,} {word}" for word, count in words.most_common())
    upper = 1 - 0.05 ** (1 / len(suites)) if alarms == 0 else math.nan
    bound = f" (95 % upper bound of the rate: {100 * upper:.1f} %)" if alarms == 0 else ""
    cells = [
        [
            r.cell,
            f"{r.cv2:.3g}",
            "–" if r.khat is None or math.isnan(r.khat) else f"{r.khat:.2f}",
            percent(r.confirmed_rate, r.cases),
        ]
        for r in null.itertuples()
    ]
    faults = list(gate.FAULTS)
    plain = power[power["fault"].isin(faults)]
    rows: list[list[object]] = []
    for name, group in plain.groupby("cell", sort=False):
        by = group.set_index("fault")["caught"]
        row = [name, *(f"{by[fault]:.2f}" for fault in faults)]
        if not group["declared_unbiased"].iloc[0] or group["khat"].iloc[0] >= 1:
            row[-1] = "not tested"
        off = float(group[group["fault"] == "bias of 5 %"]["bias_per_sd"].iloc[0])
        rows.append([*row, f"{off:.2g}"])
    planted = [
        [r.fault, r.cell, f"{r.caught:.2f}", f"{r.variance_ratio:.2f}", f"{r.bias_per_sd:.2g}"]
        for r in power[~power["fault"].isin(faults)].itertuples()
    ]
    trials = int(power["trials"].iloc[0])
    return [
        "## The gate",
        f"**No fault.** {len(suites)} suites of {len(suites[0])} cells, resampled from {len(null)} real cells, checked "
        f"with another seed at the default level: **{alarms} false alarms**{bound}. Verdicts: {said}. *confirmed*: "
        "the share of cells that the first stage passed on to the second.",
        table(["cell", "cv²", "k̂", "confirmed, %"], cells),
        f"**One fault** among {len(suites[0])} cells: the rate at which it is caught in {trials} trials. Baselines "
        "have 1e5 replicates (4e5 if cv² > 10), the stages 1e4 and 4e4. The bias is not tested in a cell that is "
        "declared biased, or whose variance may be infinite.",
        table(["cell", *faults, "5 % in sd"], rows),
        table(["fault", "cell", "caught", "V/V before", "bias in sd"], planted),
    ]


def overhead_text(overhead: pd.DataFrame) -> list[str]:
    lines = [
        f"- {'with' if r.timing_pass else 'without'} the timing pass: {r.cells} cells in {r.seconds:.1f} s. The "
        f"statistics take {r.statistics_seconds:.1f} s of this: they add {100 * r.added:.0f} %"
        for r in overhead.itertuples()
    ]
    return [
        "## What the statistics cost",
        "The default study in one process, in seconds of processor time:",
        "\n".join(lines),
    ]


TITLE = """How often the 95 % interval of the variance covers the true variance, by law of the gradient
Bars: 95 % intervals of the simulation, R replicates a run. Expected: from the simulations that chose the procedure."""


def figure(covered: pd.DataFrame, folder: Path) -> None:
    """Draw the coverage of every law at both sizes, against the nominal 95 %."""
    shown = covered[covered["covered"].notna()]
    laws = list(dict.fromkeys(shown["law"]))
    with plt.rc_context(
        {"font.size": 9, "svg.hashsalt": "calibration", "axes.spines.top": False, "axes.spines.right": False}
    ):
        fig, axis = plt.subplots(figsize=(8.2, 4.4), layout="constrained")
        fig.suptitle(TITLE, fontsize=9.5, x=0.01, ha="left")
        axis.axvline(95, color="0.6", linewidth=1, zorder=0)
        for place, (R, colour, marker) in enumerate(((1_000, "#0173b2", "o"), (10_000, "#de8f05", "s"))):
            part = shown[shown["R"] == R].set_index("law").loc[laws]
            error = [1.96 * standard_error(p, n) for p, n in zip(part["covered"], part["runs"], strict=True)]
            height = [i + (0.16 if place else -0.16) for i in range(len(laws))]
            axis.errorbar(
                100 * part["covered"],
                height,
                xerr=error,
                fmt=marker,
                color=colour,
                markersize=4,
                linewidth=1,
                label=f"R = {R:,}",
            )
            axis.plot(part["expected"], height, "|", color="black", markersize=8, zorder=3)
        axis.plot([], [], "|", color="black", markersize=8, label="expected")
        says = {law.name: law.says for law in LAWS}
        axis.set_yticks(range(len(laws)), [f"{says[law]} ({law})" for law in laws])
        axis.invert_yaxis()
        axis.set_xlabel("coverage of the 95 % interval of the variance, %")
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        for kind in ("svg", "png"):
            fig.savefig(
                folder / f"coverage.{kind}", dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None}
            )
        plt.close(fig)
