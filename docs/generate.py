"""Writes ``docs/estimators.md`` and ``docs/objectives.md`` from the classes: ``python docs/generate.py``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import estimators
from bench import objectives
from bench.names import facts

HERE = Path(__file__).parent


def table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def fields(known: dict[str, Any]) -> str:
    """Return the parameters of a selector with their defaults: ``n=1, temperature=1.0``."""
    text = ", ".join(f"{name}={field['default']}" for name, field in known["fields"].items())
    return f"`{text}`" if text else "none"


def body(cls: type) -> str:
    """Return a docstring as Markdown: its formula lines as code, its argument list as it stands."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return text.replace("``", "`").replace("\nArgs:\n", "\nParameters:\n\n").replace("\n    ", "\n- ")


def estimators_page() -> str:
    """Return the page of estimators."""
    lines, sections = [], []
    for name, cls in estimators.catalogue().items():
        known = facts("estimator", name, cls)
        served = ", ".join(known["families"]) if known["families"] else "see below"
        needs = ", ".join(known["needs"]) or "values of f"
        unbiased = "yes" if known["unbiased"] else "no"
        lines.append(
            [
                f"[`{name}`](#{cls.__name__.lower()})",
                unbiased,
                served,
                needs,
                known["cost"],
                fields(known),
                known["reference"],
            ]
        )
        sections.append(section("estimators", name, cls, known))
    intro = (
        "# Estimators\n\nMade by `python docs/generate.py` from the docstrings. Names are those of the command line; "
        "the classes are in `estimators`. Cost is per estimate, n samples. [What is not there, and why](absent.md).\n"
    )
    header = ["estimator", "unbiased", "q", "needs", "cost", "parameters", "reference"]
    return "\n".join([intro, table(header, lines), "", *sections])


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
        "# Objectives\n\nMade by `python docs/generate.py` from the docstrings. Each is measured at the point that its "
        "parameters name.\n"
    )
    header = ["objective", "q", "exact gradient", "parameters", "source"]
    return "\n".join([intro, table(header, lines), "", *sections])


def section(package: str, name: str, cls: type, known: dict[str, Any]) -> str:
    """Return what the page says of one class."""
    names = ", ".join(f"`{word}`" for word in [name, *known["aliases"]])
    return f"## {cls.__name__}\n\nSelector: {names}. Class: `{package}.{cls.__name__}`.\n\n{body(cls)}\n"


PAGES = {"estimators.md": estimators_page, "objectives.md": objectives_page}


if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make(), encoding="utf-8")
