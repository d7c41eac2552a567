"""The command ``bench list``."""

import shutil
import sys
from json import dumps
from typing import Any, get_args

import click

from bench.cli.options import json_option
from bench.planning.catalogue import Kind, catalogue, served


@click.command(name="list")
@click.argument("what", required=False, type=click.Choice(["estimators", "objectives"]))
@json_option
def command(what: str | None, json: bool) -> None:
    """List the estimators and objectives, or explain one."""
    kinds = [kind for kind in get_args(Kind) if what in (None, f"{kind}s")]
    if json:
        click.echo(dumps({f"{kind}s": catalogue(kind) for kind in kinds}))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for kind in kinds:
        lines = [_line(name, facts) for name, facts in catalogue(kind).items()]
        columns = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            text = "  ".join(word.ljust(size) for word, size in zip(line, columns, strict=True)).rstrip()
            click.echo(text if width is None or len(text) <= width else f"{text[: width - 1]}…")


def _line(name: str, facts: dict[str, Any]) -> tuple[str, ...]:
    """Return the columns of an entry: name, facts, parameters, description."""
    if "family" in facts:
        lacks = [("no exact gradient", facts["has_exact"]), ("f has no gradient", facts["differentiable"])]
        said = [facts["family"], f"dim {facts['dim']}", *(words for words, has in lacks if not has)]
    else:
        bias = "biased" if not facts["unbiased"] else "exact" if facts["deterministic"] else "unbiased"
        needs = f"needs {' and '.join(facts['needs'])}" if facts["needs"] else ""
        families = "/".join(served(facts)) + ("" if facts["families"] else " family")
        said = [bias, families, *filter(None, [needs])]
    defaults = {key: dumps(field["default"]).strip('"') for key, field in facts["fields"].items()}
    fields = ",".join(f"{key}={default}" for key, default in defaults.items())
    also = f" Also: {', '.join(facts['aliases'])}." if facts["aliases"] else ""
    cost = f" Cost: {facts['cost']}." if facts.get("cost") else ""
    return name, ", ".join(said), fields, f"{facts['description']}{cost}{also}"
