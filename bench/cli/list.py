"""The command ``bench list``."""

import inspect
import shutil
import sys
import textwrap
from json import dumps
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

from bench.cli.errors import UNWRITTEN, CommandError, ExitCode, program, reported
from bench.cli.options import complete, json_option
from bench.cli.terminal import echo, echo_json
from bench.planning.catalogue import Kind, arguments, canonical_name, catalogue, own_defaults, served
from bench.records.labels import spelled, value_text

KINDS: tuple[Kind, ...] = get_args(Kind)
FOLD: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
"""How lines are folded on a terminal: no word, such as the name of an estimator, is broken."""
Entries = dict[str, dict[str, Any]]
"""Facts of estimators or objectives, by name."""


def _complete(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return what may follow ``bench list``, for completion in a shell."""
    known = [CompletionItem(f"{kind}s") for kind in KINDS if kind.startswith(incomplete)]
    return known + [item for kind in KINDS for item in complete(kind)(context, param, incomplete)]


@click.command(
    name="list",
    epilog="\b\n"
    "Examples:\n"
    "  bench list\n"
    "  bench list --for Categorical --unbiased\n"
    "  bench list estimators --black-box\n"
    "  bench list rloo",
)
@click.argument("what", required=False, metavar="[estimators | objectives | NAME]", shell_complete=_complete)
@click.option(
    "--for", "--family", "family", metavar="FAMILY", help="List only entries for this family of q, such as Bernoulli."
)
@click.option("--unbiased", is_flag=True, help="List only unbiased estimators.")
@click.option("--black-box", is_flag=True, help="List only estimators that need no gradient of f.")
@json_option
def command(what: str | None, family: str | None, unbiased: bool, black_box: bool, json: bool) -> None:
    """List estimators and objectives, or explain one of them."""
    kinds = [kind for kind in KINDS if what is None or what.lower().rstrip("s") == kind]
    narrowed = [name for name, given in (("--unbiased", unbiased), ("--black-box", black_box)) if given]
    if narrowed and "estimator" not in kinds:
        raise CommandError(f"{narrowed[0]} narrows a list of estimators: bench list {narrowed[0]}.", ExitCode.USAGE)
    if family and not kinds:
        raise CommandError(f"--for narrows a list: bench list --for {family}.", ExitCode.USAGE)
    with reported(UNWRITTEN):
        if what is not None and not kinds:
            echo(_explained(what, json=json))
            return
        found: dict[Kind, Entries] = {kind: dict(sorted(catalogue(kind).items())) for kind in kinds}
        if family is not None:
            found = {kind: _serving(kind, facts, family) for kind, facts in found.items()}
    if narrowed:
        found = {
            "estimator": {
                name: facts
                for name, facts in found["estimator"].items()
                if (facts["unbiased"] or not unbiased) and (_is_black_box(facts) or not black_box)
            }
        }
    if json:
        echo_json(dumps({f"{kind}s": facts for kind, facts in found.items()}))
    else:
        echo("\n".join(_listed(found)))


# The list -------------------------------------------------------------------------------------------------------------

GROUPS = {
    (True, None): "Exact, without noise",
    (True, True): "Unbiased, and f may be a black box",
    (True, False): "Unbiased, with the gradient of f",
    (False, False): "Biased, with the gradient of f",
    (False, True): "Biased, and f may be a black box",
}
"""Titles of the groups of estimators: whether it is unbiased, and whether f may be a black box; None if it is exact."""


def _is_black_box(facts: dict[str, Any]) -> bool:
    return "df/dx" not in facts["needs"]


def _listed(found: dict[Kind, Entries]) -> list[str]:
    """Return the lines of a list, in groups."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = list[str]()
    for kind, entries in found.items():
        groups = {f"Estimators. {title}": list[str]() for title in GROUPS.values()} if kind == "estimator" else {}
        for name, facts in entries.items():
            title = f"Objectives, {facts['family']}" if kind == "objective" else f"Estimators. {_group(facts)}"
            groups.setdefault(title, []).extend(_lines(kind, name, facts, width))
        for title, group in groups.items() if kind == "estimator" else sorted(groups.items()):
            lines += [title, *group] if group else []
    return lines or ["Nothing fits."]


def _group(facts: dict[str, Any]) -> str:
    if facts["base"]:
        return f"Presets of {facts['base']}"
    exact = facts["deterministic"] and facts["unbiased"]
    return GROUPS[facts["unbiased"], None if exact else _is_black_box(facts)]


def _lines(kind: Kind, name: str, facts: dict[str, Any], width: int | None) -> list[str]:
    """Return the two lines of an entry, folded at the width of a terminal: what it is called, and what it is."""
    text = facts["description"] + (f" Cost: {facts['cost']}." if facts.get("cost") else "")
    text += f" Also: {', '.join(facts['aliases'])}." if facts["aliases"] else ""
    head = spelled(name, own_defaults(kind, facts))
    lines = [("  ", f"{head}  {'; '.join(_facts(facts))}"), ("      ", text)]
    if width is None:
        return [indent + line for indent, line in lines]
    return [textwrap.fill(line, width, initial_indent=i, subsequent_indent=" " * 6, **FOLD) for i, line in lines]


def _facts(facts: dict[str, Any]) -> list[str]:
    """Return the facts of an entry in a few words each."""
    if "family" in facts:
        lacks = [("no exact gradient", facts["has_exact"]), ("f has no gradient", facts["differentiable"])]
        return [f"dim {facts['dim']}", *(words for words, has in lacks if not has)]
    found = [", ".join(served(facts)) + ("" if facts["families"] else " family")]
    found += ["exact"] if facts["deterministic"] and facts["unbiased"] else []
    return found + ([f"needs {' and '.join(facts['needs'])}"] if facts["needs"] else [])


def _serving(kind: Kind, entries: Entries, family: str) -> Entries:
    """Return the entries whose class serves a family of q."""
    from bench.planning.loading import family_named, load
    from bench.planning.selectors import Selector

    cls = family_named(family)
    if kind == "objective":
        return {name: facts for name, facts in entries.items() if issubclass(load(Selector(name), kind)().family, cls)}
    return {name: facts for name, facts in entries.items() if load(Selector(name), kind)().refuses(cls) is None}


# One entry ------------------------------------------------------------------------------------------------------------


def _explained(text: str, *, json: bool) -> str:
    """Return everything about an estimator or objective: what it is, formula, parameters, source, code to paste."""
    from bench.planning.instances import expand
    from bench.planning.loading import load
    from bench.planning.selectors import UsageError, check_name, full_label, parse

    selector = parse(text)
    known = [kind for kind in KINDS if canonical_name(kind, selector.name)]
    kind: Kind = known[0] if known else "estimator"
    try:
        cls = load(selector, kind)
    except UsageError:
        if known or not (":" in selector.name or selector.file):
            check_name(selector, kind)
        kind = "objective"  # a user's class is one of the two
        cls = load(selector, kind)
    name = check_name(selector, kind).name
    facts = catalogue(kind).get(name, {})
    if json:
        return dumps({f"{kind}s": {name: facts}})
    width = min(shutil.get_terminal_size().columns, 120) if sys.stdout.isatty() else None
    before, _, after = inspect.cleandoc(cls.__doc__ or "It has no docstring.").replace("``", "`").partition("\nArgs:\n")
    source = after.partition("\n\n")[2] or f"Reference: {facts['reference']}." if facts.get("reference") else ""
    parts = [*_lines(kind, name, facts, width)[:1]] if facts else [f"  {name}"]
    parts += ["", _folded(before.rstrip(), width), *_parameters(facts, arguments(cls), width)]
    parts += ["", _folded(source, width)] if source and source not in before else []
    parts += ["", f"Also called: {', '.join(facts['aliases'])}"] if facts.get("aliases") else []
    for each in expand(selector, kind) if selector.params else ():
        said = full_label(each)
        if scale := getattr(each, "gradient_scale", None):
            said += f": its expected gradient is {scale:g} times the exact one"
        parts += ["", f"As given: {said}"]
    parts += ["", "To measure it:", f"  {program()} {_measuring(kind, name, cls)}"]
    return "\n".join([*parts, *(_pasted(kind, cls.__name__, facts) if facts else [])])


def _parameters(facts: dict[str, Any], meanings: dict[str, str], width: int | None) -> list[str]:
    """Return a line for each parameter of an entry: its default, its meaning and the words that it takes."""
    if not meanings:
        return []
    lines = ["", "Parameters:"]
    for name, meaning in meanings.items():
        field = facts.get("fields", {}).get(name)
        head = f"  {name} = {value_text(field['default'])}" if field else f"  {name}"
        lines.append(_folded(f"{head}   {meaning}", width, "      "))
    return lines


def _measuring(kind: Kind, name: str, cls: type) -> str:
    """Return the end of a command that measures an entry: an estimator on an objective that it fits."""
    from bench.objectives import catalogue as objectives
    from bench.planning.cells import mismatch

    if kind == "objective":
        return f"run -o {name} -e rloo:n=4"
    fitting = [key for key, each in objectives().items() if mismatch(cls(), each()) is None]
    several = [key for key in fitting if objectives()[key]().particles]
    return f"run -e {name} -o {(several or fitting or ['gaussian-quadratic'])[0]}"


def _pasted(kind: Kind, cls: str, facts: dict[str, Any]) -> list[str]:
    """Return lines of Python that use an entry of the catalogue."""
    given = ", ".join(f"{key}={default!r}" for key, default in own_defaults(kind, facts).items())
    if kind == "objective":
        return [
            "",
            "In Python:",
            "  from bench import measure, objectives",
            "  from estimators import RLOO",
            f"  measure(RLOO(n=4), objectives.{cls}({given}))",
        ]
    has_state, is_bound = ("state" in facts["needs"]), ("bound" in facts["needs"])
    return [
        "",
        "In Python:",
        f"  from estimators import {'Bound, ' * is_bound}{cls}",
        f"  estimator = {cls}({given})",
        *(["  f = Bound(log_joint, q)  # log_joint(x) is log p(x), up to a constant"] if is_bound else []),
        *(["  state = estimator.init(q)  # once, before the loop"] if has_state else []),
        f"  value = estimator(f, q{', state=state' if has_state else ''})",
        "  value.mean().backward()",
        *(["  # how the state learns: docs/training.md"] if has_state else []),
    ]


def _folded(text: str, width: int | None, indent: str = "") -> str:
    """Return a text whose long lines are folded at a width; lines of formulas stay apart."""
    if width is None:
        return text
    return "\n".join(textwrap.fill(line, width, subsequent_indent=indent, **FOLD) for line in text.split("\n"))
