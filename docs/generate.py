"""Generates the reference pages: ``python docs/generate.py``.

``docs/estimators.md`` and ``docs/objectives.md`` are made from the docstrings and the records of the studies. The
tables in ``README.md`` are made from the docstrings and ``docs/absent.md``, the tables in ``docs/records.md`` from
``docs/fields.toml`` and the docstrings, the table in ``docs/spec.md`` from ``bench.planning.spec.Spec``.
"""

from __future__ import annotations

import csv
import functools
import inspect
import io
import json
import math
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from rich.console import Console

import estimators
from bench import objectives
from bench.planning.catalogue import arguments, facts, own_defaults, served
from bench.planning.spec import Spec
from bench.records import store
from bench.records.lines import Outcome
from bench.report import printed
from bench.report.frame import each
from bench.report.prepared import prepared
from bench.report.study import Report
from bench.report.table_csv import CSV, UNIT_NAMES
from bench.stats.printing import format_rank
from bench.stats.summary import Summary
from bench.stats.sums import Sums

if TYPE_CHECKING:
    import pandas as pd
    from pydantic.fields import FieldInfo

HERE = Path(__file__).parent
ROOT = HERE.parent
REFERENCE, CATALOGUE = ROOT / "results" / "reference", ROOT / "results" / "catalogue"
README = ROOT / "README.md"
SCREEN = ("gaussian-quadratic:dim=10", "gaussian-cosine", "categorical-polynomial:power=2", "logistic-regression")
"""The problems of the reference study whose rows the README shows."""
FIRST_CHOICE = ROOT / "results" / "advice" / "first-choice.csv"
BOUNDS = {"ge": "of at least", "gt": "above", "lt": "below"}
HEADER = ["field", "meaning", "unit", "null"]
FIELDS = tomllib.loads((HERE / "fields.toml").read_text(encoding="utf-8"))
"""What the fields of records and the columns of tables mean, by kind of record or name of table."""
SHOWN = ("rloo", "score-function", "gumbel-softmax", "straight-through")
"""Estimators of the reference study whose report the tutorial explains."""
DISTRIBUTIONS = (
    estimators.Layers,
    estimators.ReparameterizedMixture,
    estimators.ReparameterizedVonMises,
    estimators.Subset,
)
"""Families of q that torch lacks and the estimators provide."""


def table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def fields(known: dict[str, Any]) -> str:
    """Return the parameters of a selector with their defaults: ``n=1, temperature=1.0``.

    Of an estimator that is another one with other defaults, these defaults are given, and the other one is named.
    """
    text = ", ".join(f"{name}={default}" for name, default in own_defaults("estimator", known).items())
    return (f"`{text}`" if text else "none") + (f" and those of `{known['base']}`" if known.get("base") else "")


def body(cls: type) -> str:
    """Return a docstring as Markdown: each formula on a line of its own as code, its arguments as a list."""
    text = inspect.cleandoc(cls.__doc__ or "").replace("``", "`").replace("\nArgs:\n", "\nParameters:\n\n")
    text = re.sub(r"(?m)^(`.+)\n(?=`)", r"\1\\\n", text)
    return re.sub(r"(?m)^    ( *)", lambda indent: "  " if indent[1] else "- ", text)


def estimators_page() -> str:
    """Return the page of estimators."""
    lines, sections = [], []
    for name, cls in estimators.catalogue().items():
        known = facts("estimator", name, cls)
        lines.append(
            [
                f"[`{name}`](#{cls.__name__.lower()})",
                "yes" if known["unbiased"] else "no",
                ", ".join(served(known)),
                ", ".join(known["needs"]) or "values of f",
                known["cost"],
                fields(known),
                known["reference"],
            ]
        )
        sections += [section("estimators", name, cls, known), ranks(name)]
    intro = (
        "# Estimators\n\nThis page is generated from the docstrings by `python docs/generate.py`. The first column has "
        "the names for the command line; the classes are in `estimators`. The cost is counted per estimate, with n "
        "samples. In the column q, *any* is a distribution with a `log_prob`; a *reparameterized* one has an `rsample` "
        "as well. Distributions that torch lacks are at the end of the page. [What is not included, and why]"
        "(absent.md).\n\n"
        "The function f maps samples `[..., *batch, *event]` to one value each, `[..., *batch]`, for any number of "
        "axes on the left, and must not change its argument in place. Changes through numpy or `x.data`, which torch "
        "does not count, are found in the first three calls of a function, then in "
        "ever fewer, and always if its values are no tensor of torch; and by `bench` in every measurement. If the "
        "estimator needs only values of f, they may also be whole numbers or bools, and come as a numpy array, as a "
        "list or, for a single sample, as a Python number. Every call checks the values of f, also in an estimator of "
        "your own; an exception that f raises comes "
        "through, with a note of the shapes.\n\n"
        "An outcome of probability 0 is never drawn. If a probability of exactly 0 or 1 is itself trained, given as "
        "`probs`, estimators that see drawn outcomes alone miss a part of its derivative. `Enumeration`, "
        "`LocalExpectation`, `MeasureValued` and `BitFlip` have all of it. `bench` refuses an own "
        "objective at such a point.\n\n"
        "The ranks come from [the reference study](../results/reference/README.md), made by\n\n"
        f"```bash\n{command(REFERENCE)}\n```\n\n"
        "Estimators that it leaves out are ranked in [a smaller study of all estimators]"
        "(../results/catalogue/README.md), made by\n\n"
        f"```bash\n{command(CATALOGUE)}\n```\n\n"
        "A rank is the place of the estimator's variance among all estimators measured on the objective, 1 being the "
        "lowest, as a simultaneous 95 % interval. A low variance is no merit by itself: if the study found a bias, the "
        "cell says so. The cost of an estimate is in the tables of the studies ([reference]"
        "(../results/reference/table.md), [all](../results/catalogue/table.md)).\n"
    )
    header = ["estimator", "unbiased", "q", "needs", "cost", "parameters", "reference"]
    own = [
        f"## {cls.__name__}\n\nA distribution: `estimators.{cls.__name__}`.\n\n{body(cls)}\n" for cls in DISTRIBUTIONS
    ]
    return "\n".join([intro, table(header, lines), "", *sections, *own])


@functools.cache
def study(folder: Path) -> pd.DataFrame:
    """Return the runs of a study, with their ranks."""
    runs = prepared(store.read(folder))
    return runs[runs["outcome"] != Outcome.SKIPPED]


def command(folder: Path) -> str:
    """Return the command that made a study, from the study's README."""
    found = re.search(r"(?m)^bench run (.*\\\n)*.*$", (folder / "README.md").read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(
            f"{folder}/README.md has no `bench run` command: it must give the command that made the records."
        )
    return found[0]


def ranks(name: str) -> str:
    """Return the table of an estimator's ranks: a row per objective, a column per parameter setting."""
    for folder in (REFERENCE, CATALOGUE):
        all_runs = study(folder)
        own = all_runs[all_runs["estimator_name"] == name]
        if not own.empty:
            break
    else:
        raise ValueError(f"no study has measured {name}: make {CATALOGUE.relative_to(ROOT)} again, see its README.")
    runs = each(own)
    labels = sorted({run.estimator for run in runs}, key=natural)
    problems = sorted({(run.objective_name, run.dim, *natural(run.problem)): run.problem for run in runs}.items())
    lines = []
    for _, problem in problems:
        cells = {run.estimator: rank(run, all_runs) for run in runs if run.problem == problem}
        lines.append([f"`{problem}`", *(cells.get(label, "") for label in labels)])
    return table(["rank by variance", *(f"`{label}`" for label in labels)], lines) + "\n"


def rank(run: Any, runs: pd.DataFrame) -> str:
    """Return the cell of one run of a study: ``3–4 of 12``."""
    if run.outcome != Outcome.MEASURED:
        return "failed"
    bias = ", biased" if run.biased else ""
    if math.isnan(run.rank_low):
        return ("heavy tail" if run.heavy else "no variance" if run.variance == 0 else "no rank") + bias
    count = int(runs.loc[runs["problem"] == run.problem, "rank_low"].notna().sum())
    return f"{format_rank((int(run.rank_low), int(run.rank_high)))} of {count}{bias}"


def natural(label: str) -> list[str]:
    """Return a sort key that orders numbers by value: ``rloo:n=4`` before ``rloo:n=16``."""
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", label)]


def readme() -> str:
    """Return the README with its two tables made again: what is included, and what is not."""
    lines = []
    for name, cls in estimators.catalogue().items():
        known = facts("estimator", name, cls)
        needs = ", ".join(known["needs"]) or "–"
        unbiased = "yes" if known["unbiased"] else "no"
        lines.append(
            [f"[`{name}`](docs/estimators.md#{cls.__name__.lower()})", ", ".join(served(known)), unbiased, needs]
        )
        lines[-1].append(short(known["cost"]))
    there = table(["estimator", "q", "unbiased", "needs", "cost"], lines)
    absent = re.findall(r"(?m)^\| (?!method|---)(.+?) \| (.+?\.)(?: .*)? \|$", (HERE / "absent.md").read_text("utf-8"))
    left_out = table(["left out", "why"], [list(row) for row in absent])
    made = {"screen": screen(), "estimators": there, "absent": left_out, "first choice": first_choice()}
    return filled(README, made)


def screen() -> str:
    """Return the first table of the reference study, eight lines of it, as ``bench run`` prints it."""
    stream = io.StringIO()
    runs = study(REFERENCE)
    printed.show(runs[runs["problem"].isin(SCREEN)], Console(file=stream, width=116), brief=True)
    lines = [line[printed.INDENT :].rstrip() for line in stream.getvalue().splitlines()]
    begin = next(i for i, line in enumerate(lines) if line.startswith("objective"))
    return "\n".join(["```text", *lines[begin : lines.index("", begin)], "```"])


def first_choice() -> str:
    """Return the table of what to start with on each kind of q, from the file that ``docs/first_choice.py`` writes."""
    with FIRST_CHOICE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        starts = dict.fromkeys(f"`{without_n(row['start'])}`" for row in mine)
        more = [row for row in mine if row["then"].partition(":")[0] != row["start"].partition(":")[0]]
        thens = dict.fromkeys(f"`{without_n(row['then'])}` ({float(row['ratio']):.2g} times)" for row in more)
        problems = ", ".join(row["problem"].partition(":")[0] for row in mine)
        lines.append([kind, ", ".join(starts), ", ".join(thens) or "–", problems])
    return table(["your q", "start with", "then try", "measured on"], lines)


def without_n(label: str) -> str:
    """Return a selector without its n, such as ``relax:temperature=0.1`` for ``relax:n=8,temperature=0.1``."""
    name, _, params = label.partition(":")
    kept = ",".join(param for param in params.split(",") if param and not param.startswith("n="))
    return f"{name}:{kept}" if kept else name


def filled(page: Path, tables: dict[str, str]) -> str:
    """Return a page with its tables made again, each between ``<!-- MARK: ... -->`` and ``<!-- end -->``."""
    text = page.read_text(encoding="utf-8")
    for mark, made in tables.items():
        parts = re.split(
            rf"(<!-- {re.escape(mark)}: [^\n]*-->\n)(.*?)(<!-- end -->)", text, maxsplit=1, flags=re.DOTALL
        )
        if len(parts) != 5:
            raise ValueError(
                f"{page.name} lacks the comments `<!-- {mark}: ... -->` and `<!-- end -->`: put them back."
            )
        before, begin, _, end, after = parts
        text = f"{before}{begin}\n{made}\n\n{end}{after}"
    return text


def short(cost: str) -> str:
    """Return a cost in symbols instead of words: ``n f, n ∇f``."""
    text = re.sub(r"evaluations? of f", "f", cost)
    text = re.sub(r"of its gradient", "∇f", text)
    return text.replace("Hessian-vector products", "Hv")


def records_page() -> str:
    """Return the dictionary of records and tables with its tables made again."""
    known = {kind: {name: Entry(**texts) for name, texts in entries.items()} for kind, entries in FIELDS.items()}
    known["summary"] = with_limits(known["summary"])
    known["sums"] = {name: Entry(text) for name, text in arguments(Sums).items()}
    timing = {name: entry._replace(null="it was not timed") for name, entry in known["timing"].items()}
    every = known["moments"] | timing | known["cell"] | known["every"] | known["summary"] | known.pop("table")
    every |= {name: renamed(every, name) for name in UNIT_NAMES.values() if name not in every}
    known["table.csv"] = {name: every[name] for name in (UNIT_NAMES.get(name, name) for name in CSV)}
    known["table.csv"] |= {name: every[name] for name in ("estimator.FIELD", "objective.FIELD")}
    known["training.csv"] |= {name: every[name] for name in ("estimator.FIELD", "objective.FIELD")}
    return filled(HERE / "records.md", {kind: dictionary(entries) for kind, entries in known.items()})


def renamed(every: dict[str, Entry], name: str) -> Entry:
    """Return the entry of a column that has another name in a table, with the names there."""
    old = next(key for key, new in UNIT_NAMES.items() if new == name)
    found = Entry(*every[old])
    for key, new in UNIT_NAMES.items():
        found = Entry(*(text.replace(f"`{key}`", f"`{new}`") for text in found))
    return found


def spec_page() -> str:
    """Return the page on specs with its table made again."""
    meanings, lines = arguments(Spec), []
    for name, field in Spec.model_fields.items():
        default = "needed" if field.is_required() else "none" if field.default is None else f"`{toml(field.default)}`"
        lines.append([f"`{name}`", values(field), default, meanings[name]])
    return filled(HERE / "spec.md", {"keys": table(["key", "value", "default", "meaning"], lines)})


def toml(value: Any) -> str:
    """Return a default as TOML spells it."""
    return json.dumps(value)


def values(field: FieldInfo) -> str:
    """Return in words the values that a key of a spec can have."""
    choices = [f"`{toml(choice)}`" for choice in get_args(field.annotation) if isinstance(choice, str)]
    if choices:
        return " or ".join(choices)
    if field.annotation is bool:
        return "`true` or `false`"
    if field.annotation == dict[str, dict[str, str]] | None:
        return "tables `estimators` and `objectives` of names by selector"
    bounds = {end: getattr(each, end) for each in field.metadata for end in BOUNDS if hasattr(each, end)}
    limits = " and ".join(f"{BOUNDS[end]} {bound}" for end, bound in bounds.items() if bound < 2**63)
    kinds = {int: "whole number", float | None: "number", str: "text of letters, digits and `_+.-`"}
    return f"{kinds.get(field.annotation, 'list of selectors')} {limits}".strip()


def report_page() -> str:
    """Return the tutorial on reading a report, with a part of the reference study as it is printed."""
    shown = [
        record
        for record in store.read(REFERENCE)
        if record["objective"] == "categorical-polynomial" and record["estimator_name"] in SHOWN
    ]
    console = Console(width=136)
    with console.capture() as text:
        Report(shown).show(console)
    lines = [line.rstrip() for line in text.get().strip().splitlines()]
    return filled(HERE / "read-a-report.md", {"printed": "\n".join(["```text", *lines, "```"])})


class Entry(NamedTuple):
    """What a field means, its unit, and when it is null; when its limits are null, if not where the field itself is."""

    means: str = ""
    unit: str = ""
    null: str = "never"
    null_low: str = ""
    null_high: str = ""


def with_limits(given: dict[str, Entry]) -> dict[str, Entry]:
    """Return the fields of a summary, each with what its docstring says if nothing else is given, then its limits."""
    meanings, found = arguments(Summary), {}
    for name, entry in given.items():
        found[name] = entry._replace(means=entry.means or meanings[name])
        for end, words, null in (("low", "lower", entry.null_low), ("high", "upper", entry.null_high)):
            limit = f"{name}_{end}"
            if limit in Summary.__dataclass_fields__ and limit not in given:
                found[limit] = Entry(f"{words} 95 % limit of `{name}`", entry.unit, null or f"there is no `{name}`")
    return found


def dictionary(entries: dict[str, Entry]) -> str:
    """Return a table of fields. Columns that say nothing are left out."""
    lines = [[f"`{name}`", *entry[:3]] for name, entry in entries.items()]
    kept = [i for i in range(4) if i < 2 or any(line[i] not in ("", "never") for line in lines)]
    return table([HEADER[i] for i in kept], [[line[i] for i in kept] for line in lines])


def objectives_page() -> str:
    """Return the page of objectives."""
    lines, sections = [], []
    for name, cls in objectives.catalogue().items():
        known = facts("objective", name, cls)
        exact = "yes" if known["has_exact"] else "no"
        lines.append(
            [f"[`{name}`](#{cls.__name__.lower()})", known["family"], exact, fields(known), known["reference"]]
        )
        sections.append(section("bench.objectives", name, cls, known))
    intro = (
        "# Objectives\n\nThis page is generated from the docstrings by `python docs/generate.py`. Each objective is "
        "measured at the point given by its parameters.\n"
    )
    header = ["objective", "q", "exact gradient", "parameters", "source"]
    return "\n".join([intro, table(header, lines), "", *sections])


def section(package: str, name: str, cls: type, known: dict[str, Any]) -> str:
    """Return the section about one class."""
    names = ", ".join(f"`{word}`" for word in [name, *known["aliases"]])
    return f"## {cls.__name__}\n\nSelector: {names}. Class: `{package}.{cls.__name__}`.\n\n{body(cls)}\n"


PAGES = {
    "estimators.md": estimators_page,
    "objectives.md": objectives_page,
    "records.md": records_page,
    "spec.md": spec_page,
    "read-a-report.md": report_page,
    "../README.md": readme,
}


if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make(), encoding="utf-8")
