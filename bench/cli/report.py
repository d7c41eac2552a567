"""The command ``bench report``."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.errors import UNCHANGED, reported
from bench.cli.options import PATH, json_option, quiet_option, selector
from bench.cli.output import complain, list_files, print_json, print_table, reading_of, to_go
from bench.cli.terminal import echo
from bench.cli.values import Between

if TYPE_CHECKING:
    from bench.planning.labelling import Labels
    from bench.planning.spec import Spec
    from bench.records.lines import Record

USUAL = ("html", "md", "csv", "tex", "svg", "png")
ALL = (*USUAL, "pdf", "parquet", "json", "bib")
PAPER = ("md", "tex", "bib")
"""The formats of a table for a paper, and of the papers of its estimators."""
IMAGES = ("svg", "png", "pdf")
HALVES = ("estimators", "objectives")


class Formats(click.ParamType):  # type: ignore[type-arg]
    """Formats separated by commas, such as "html,pdf"."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the formats that were typed as ``value``, such as ("html", "pdf") for ``html,pdf``.

        If a format is unknown, the command ends with an error message, for which click passes ``param`` and ``ctx``.
        """
        words = tuple(word.strip().lower() for word in value.split(","))
        if unknown := [word for word in words if word not in ALL]:
            self.fail(f"{unknown[0]!r} is no format of a report. Choose from {', '.join(ALL)}.", param, ctx)
        return words


@click.command(
    name="report",
    epilog="\b\n"
    "Examples:\n"
    "  bench report results/default --open\n"
    "  bench report results/default --format pdf,tex --width 3.25\n"
    "  bench report results/default --table variance --labels labels.toml\n"
    "  bench report laptop cluster --out both",
)
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="FOLDER...")
@click.option("--out", type=PATH, metavar="FOLDER", help="Write the report to this folder [the study folder].")
@click.option(
    "--format",
    "formats",
    type=Formats(),
    metavar="NAMES",
    help=f"What to write, separated by commas: {', '.join(ALL)} [{','.join(USUAL)}].",
)
@click.option(
    "--cost",
    type=click.Choice(["evaluations", "seconds"]),
    default="evaluations",
    help="Unit of the cost of an estimate: evaluations of f and its gradient, or seconds (if measured) [evaluations].",
)
@selector("estimator", "Report this estimator alone, or these settings of it: rloo or rloo:n=2,4.")
@selector("objective", "Report this objective alone, or these settings of it.")
@click.option(
    "--table",
    "kinds",
    type=click.Choice(["variance", "bias", "mse", "cost"]),
    multiple=True,
    help="Make this table for a paper instead, estimators against objectives, as md and tex; may be repeated.",
)
@click.option(
    "--rows", type=click.Choice(HALVES), help="With --table: what the rows are; the others are columns [estimators]."
)
@click.option("--columns", type=click.Choice(HALVES), help="With --table: what the columns are [objectives].")
@click.option(
    "--labels",
    type=PATH,
    metavar="FILE",
    help="Names in figures and tables for a paper, and their order [labels.toml in the study folder, else the spec's].",
)
@click.option(
    "--width",
    type=Between(2, 20),
    metavar="INCHES",
    help="Draw figures for print, this wide, without titles: 3.25, a column; 6.75, a page.",
)
@click.option("--no-figures", is_flag=True, help="Make no page and no figures; those of an earlier report stay.")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
@json_option
@quiet_option
@reported(UNCHANGED)
def command(
    paths: tuple[Path, ...],
    out: Path | None,
    formats: tuple[str, ...] | None,
    cost: str,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    kinds: tuple[str, ...],
    rows: str | None,
    columns: str | None,
    labels: Path | None,
    width: float | None,
    no_figures: bool,
    opened: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Make the page, tables and figures of a study.

    Its records are enough; nothing is measured. The page, report.html, is one file that needs no network. Several study
    folders are reported together in the folder --out. With -e and -o, the report is on the selected cells alone, until
    the next report is made.
    """
    from bench.cli.once import Write, once
    from bench.planning.naming import called
    from bench.planning.selectors import UsageError
    from bench.records import files
    from bench.records.store import LINES, digest, digest_of_plan
    from bench.report import Report
    from bench.report.export import Unavailable
    from bench.report.study import FORMATS, PAGE

    folders = [path.parent if path.name == LINES else path for path in paths]
    chosen = formats or FORMATS
    if given_files := [folder for folder in folders if folder.is_file()]:
        raise UsageError(f"{given_files[0]} is a file. Give the study folder, which has {LINES}.")
    if len(folders) > 1 and out is None:
        raise UsageError(f"A report of {len(folders)} studies needs a folder of its own: add --out FOLDER.")
    if not kinds and (rows or columns):
        raise UsageError("--rows and --columns arrange a table: add --table variance, bias, mse or cost.")
    if no_figures and not {*chosen} - {*IMAGES, "html"}:
        raise UsageError(
            f"--no-figures leaves nothing of --format {','.join(chosen)}: add md, csv or tex to the formats."
        )
    if rows is not None and rows == columns:
        raise UsageError(f"The rows and the columns cannot both be {rows}: leave out one of --rows and --columns.")
    if kinds and (opened or no_figures or width is not None or (formats and not set(formats) <= set(PAPER))):
        raise UsageError(f"--table makes tables alone, in --format {', '.join(PAPER)}: leave out the other options.")
    if opened and (no_figures or "html" not in chosen):
        raise UsageError("--open opens the page: leave out --no-figures, and have html in --format.")
    target = out or folders[0]
    if kinds:
        records, _, lacking, names = _selected(folders, estimator, objective, labels)
        down = rows or ("estimators" if columns != "estimators" else "objectives")
        tables = _tables(records, cost, kinds, down, names, formats or PAPER)
        for name, text in tables.items():
            files.write(target / name, text)
        if json:
            print_json(records, target, [target / name for name in tables])
        elif shown := [text for name, text in tables.items() if name.endswith(PAPER[0])]:
            echo("\n".join(shown), nl=False)
        if lacking and not quiet:
            echo(lacking, err=True)
        if not quiet:
            echo(f"{target}: {', '.join(tables)}", err=True)
        return

    def make(write: Write) -> None:
        records, digests, lacking, names = _selected(folders, estimator, objective, labels)
        report = Report(records, cost)
        shown = called(records, *names) if width or any(names[1].values()) else None
        how = {"drawn": not no_figures, "standing": lacking, "formats": chosen, "width": width}
        try:
            written = write(report, digests, called=shown, **how)
        except Unavailable as error:
            raise UsageError(str(error)) from None
        complain(report)
        if json:
            print_json(records, target, written)
        else:
            print_table(report)
        if lacking and not quiet:
            echo(lacking, err=True)
        if not quiet:
            list_files(target, written)
        if not quiet and (estimator or objective):
            again = f"`bench report {shlex.join(map(str, folders))}`"
            echo(f"The files hold the selected cells alone; {again} makes them of all cells again.", err=True)

    def others() -> list[str]:
        return [*map(digest_of_plan, folders), *([files.digest(labels)] if labels else [])]

    asked = (list(map(str, folders)), cost, chosen, width, no_figures, quiet, (target / LINES).exists())
    part = [estimator, objective] if estimator or objective else None
    once(make, target, lambda: [*map(digest, folders)], others, *asked, part=part, silent=json)
    if opened:
        click.launch(str((target / PAGE).resolve()))


def _selected(
    folders: Sequence[Path], estimator: Sequence[str], objective: Sequence[str], labels: Path | None
) -> "tuple[list[Record], list[str], str, tuple[list[Spec], Labels]]":
    """Return the records of study folders that -e and -o select, and what else a report needs.

    This is: digests of all records, how much is still to do, and the specs and labels. ``labels`` is a file of labels;
    None for those of the folders.
    """
    from bench.planning.naming import check, labels_in, specs_of_all
    from bench.planning.selectors import UsageError, parse, selects
    from bench.records.labels import labelled
    from bench.records.lines import LineKind
    from bench.records.merge import together

    readings = [reading_of(folder) for folder in folders]
    records = [record for each in readings for record in each.records]
    lacking = " ".join(filter(None, (to_go(folder, records) for folder in folders)))
    records = together(each.records for each in readings)
    specs = specs_of_all(folders)
    given = labels_in(folders, specs, labels)
    check(given, records)
    if estimator or objective:  # cells are selected, and the record of an objective has no estimator
        records = [record for record in records if record["kind"] != LineKind.OBJECTIVE]
    for kind, texts in (("estimator", estimator), ("objective", objective)):
        for text in texts:
            if not any(selects(text, record, kind) for record in records):  # type: ignore[arg-type]
                name = parse(text).name
                of_name = [record[kind] for record in labelled(records) if selects(name, record, kind)]  # type: ignore[arg-type]
                known = ", ".join(dict.fromkeys(of_name or [record[f"{kind}_name"] for record in records]))
                raise UsageError(f"{text!r} was not measured in this study, which has {known}.")
        records = [r for r in records if not texts or any(selects(text, r, kind) for text in texts)]  # type: ignore[arg-type]
    if not records:
        raise UsageError("No cell of this study is selected by both -e and -o.")
    return records, [each.digest for each in readings], lacking, (specs, given)


def _tables(
    records: "list[Record]",
    cost: str,
    kinds: Sequence[Any],
    rows: Any,
    names: "tuple[list[Spec], Labels]",
    formats: Sequence[str],
) -> dict[str, str]:
    """Return the texts of tables for a paper, by the names of their files; ``names`` are the specs and the labels."""
    from bench.planning.naming import named
    from bench.planning.selectors import UsageError
    from bench.records.lines import LineKind
    from bench.report.paper import FORMATS, Names, texts
    from bench.report.prepared import prepared
    from bench.report.references import bibtex
    from bench.report.study import measures

    measured = [record for record in records if record["kind"] not in (LineKind.TRAINING, LineKind.OBJECTIVE)]
    if not measured:
        raise UsageError("A table needs measurements, and this study holds training alone. Leave out --table.")
    written = [form for form in FORMATS if form in formats]
    called = Names(*named(measured, *names))
    made = texts(prepared(measured, cost), measured, kinds, called, rows=rows, formats=written)
    if "bib" in formats:
        made["methods.bib"] = bibtex(record["estimator_name"] for record in measured if measures(record))
    return made
