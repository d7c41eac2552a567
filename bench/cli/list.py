"""The command ``bench list``."""

import inspect
import shutil
import sys
import textwrap
from json import dumps
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

from bench.cli.errors import UNWRITTEN, reported
from bench.cli.options import complete, json_option
from bench.planning.catalogue import Kind, canonical_name, catalogue, served
from bench.records.labels import spelled

KINDS: tuple[Kind, ...] = get_args(Kind)


def _complete(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return what may follow ``bench list``, for completion in a shell."""
    known = [CompletionItem(f"{kind}s") for kind in KINDS if kind.startswith(incomplete)]
    return known + [item for kind in KINDS for item in complete(kind)(context, param, incomplete)]


@click.command(
    name="list",
    epilog="\b\nExamples:\n  bench list\n  bench list estimators --for Categorical\n  bench list rloo",
)
@click.argument("what", required=False, metavar="[estimators | objectives | NAME]", shell_complete=_complete)
@click.option("--for", "family", metavar="FAMILY", help="List only entries for this family of q, such as Bernoulli.")
@json_option
def command(what: str | None, family: str | None, json: bool) -> None:
    """List the estimators and objectives, or explain one."""
    kinds = [kind for kind in KINDS if what is None or what.lower().rstrip("s") == kind]
    if what is not None and not kinds:
        with reported(UNWRITTEN):
            click.echo(_explained(what))
        return
    found = {kind: dict(sorted(catalogue(kind).items())) for kind in kinds}
    if family is not None:
        with reported(UNWRITTEN):
            found = {kind: _serving(kind, facts, family) for kind, facts in found.items()}
    if json:
        click.echo(dumps({f"{kind}s": facts for kind, facts in found.items()}))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    groups: dict[str, list[str]] = {}
    for kind, entries in found.items():
        for name, facts in entries.items():
            groups.setdefault(_group(kind, facts), []).extend(_lines(name, facts, width))
    for title, lines in sorted(
        groups.items(), key=lambda group: (group[0].startswith("Obj"), "biased" in group[0][:18])
    ):
        click.echo("\n".join([title, *lines]))


def _group(kind: Kind, facts: dict[str, Any]) -> str:
    if kind == "objective":
        return f"Objectives, {facts['family']}: name, parameters"
    return f"Estimators, {'unbiased' if facts['unbiased'] else 'biased'}: name, parameters, families of q"


def _lines(name: str, facts: dict[str, Any], width: int | None) -> list[str]:
    """Return the two lines of an entry, folded at the width of a terminal: what it is called, and what it is."""
    if "family" in facts:
        lacks = [("no exact gradient", facts["has_exact"]), ("f has no gradient", facts["differentiable"])]
        said = [f"dim {facts['dim']}", *(words for words, has in lacks if not has)]
    else:
        said = ["/".join(served(facts)) + ("" if facts["families"] else " family")]
        said += ["exact"] if facts["deterministic"] and facts["unbiased"] else []
        said += [f"needs {' and '.join(facts['needs'])}"] if facts["needs"] else []
    head = spelled(name, {key: field["default"] for key, field in facts["fields"].items()})
    text = facts["description"] + (f" Cost: {facts['cost']}." if facts.get("cost") else "")
    text += f" Also: {', '.join(facts['aliases'])}." if facts["aliases"] else ""
    lines = [("  ", f"{head}  {', '.join(said)}"), ("      ", text)]
    if width is None:
        return [indent + line for indent, line in lines]
    return [textwrap.fill(line, width, initial_indent=indent, subsequent_indent=" " * 6) for indent, line in lines]


def _serving(kind: Kind, entries: dict[str, dict[str, Any]], family: str) -> dict[str, dict[str, Any]]:
    """Return the entries whose class serves a family of q."""
    from bench.planning.loading import family_named, load
    from bench.planning.selectors import Selector

    cls = family_named(family)
    if kind == "objective":
        return {name: facts for name, facts in entries.items() if facts["family"] == cls.__name__}
    return {name: facts for name, facts in entries.items() if load(Selector(name), kind)().refuses(cls) is None}


def _explained(text: str) -> str:
    """Return everything about an estimator or objective: what it is, formula, parameters, source, code to paste."""
    from bench.planning.loading import load
    from bench.planning.selectors import UsageError, check_name, parse

    selector = parse(text)
    known = [kind for kind in KINDS if canonical_name(kind, selector.name)]
    kind: Kind = known[0] if known else "estimator"
    try:
        cls = load(selector, kind)
    except UsageError:
        if known or ":" not in selector.name:
            check_name(selector, kind)
        kind = "objective"  # a user's class is one of the two
        cls = load(selector, kind)
    name = check_name(selector, kind).name
    facts = catalogue(kind).get(name)
    parts = [*_lines(name, facts, None)[:1]] if facts else [f"  {name}"]
    parts += ["", inspect.cleandoc(cls.__doc__ or "It has no docstring.").replace("``", "`")]
    if facts:
        parts += ["", "To measure it:", f"  bench run {'-e' if kind == 'estimator' else '-o'} {name}"]
        module = facts["class"].partition(":")[0]
        parts += ["", "In Python:", f"  from {module} import {cls.__name__}"]
        if kind == "estimator":
            given = ", ".join(f"{key}={field['default']!r}" for key, field in facts["fields"].items())
            state = ", state=state" if "state" in facts["needs"] else ""
            parts += [f"  estimator = {cls.__name__}({given})"]
            parts += ["  state = estimator.init(q)  # once, before the loop"] if state else []
            parts += [f"  value = estimator(f, q{state})", "  value.mean().backward()"]
            parts += ["  # how the state learns: docs/training.md"] if state else []
    return "\n".join(parts)
