"""Writes the page: the template filled with a study's contents, with the libraries inlined."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records import cache
from bench.records.lines import plain
from bench.report.page.charts import charts, training_charts
from bench.report.page.contents import contents, fitting
from bench.report.page.coordinates import profiles
from bench.report.page.heat import heat

if TYPE_CHECKING:
    import pandas as pd

LONG = 40
"""Letters of a word after which it may be broken."""
LONG_WORDS = re.compile(rf"(\S{{{LONG}}})(?=\S)")
JOINTS = re.compile(r"(?<=[:,])(?=\w)")


def page(table: pd.DataFrame | None, records: Sequence[Mapping[str, Any]], title: str, standing: str = "") -> str:
    """Return the page of a study as HTML: one file that loads nothing.

    Equal records give equal pages, as long as the libraries in the page stay the same.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns; None if all records are of training.
        records: the records of the study.
        title: the heading.
        standing: how much of the study is done, in a sentence; empty if it is complete or that is unknown.
    """
    import jinja2

    loader = jinja2.PackageLoader("bench.report.page", "template")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"data": _data, "script": _script, "label": _label}
    left_out = ""
    if table is not None:
        table, left_out = fitting(table)
    found = contents(table, records, title, " ".join(filter(None, (standing, left_out))))
    template = environment.get_template("page.html")
    drawn = {"charts": charts(table), "heat": None if table is None else heat(table)}
    drawn |= {
        "curves": training_charts(found["problems"]),
        "profiles": None if table is None else profiles(table, records),
    }
    return template.render(found | drawn | {"libraries": _libraries()})


@functools.cache
def _libraries() -> dict[str, str]:
    """Return the sources of Vega-Lite (a script) and of DataTables (a module and its style sheet)."""
    distribution = metadata.distribution("itables")  # to import it takes longer than to read its files
    tables = Path(str(distribution.locate_file("itables"))) / "html"
    return {
        "vega": _vega(),
        "tables": (tables / "dt_bundle.js").read_text(encoding="utf-8"),
        "tables_css": (tables / "dt_bundle.css").read_text(encoding="utf-8"),
    }


def _vega() -> str:
    """Return the source of Vega-Lite. vl-convert needs two seconds to put it together, so it is kept."""
    name = f"vega-{metadata.version('vl-convert-python')}.js"
    source = cache.get(name)
    if source is None:
        import vl_convert

        source = str(vl_convert.javascript_bundle())  # type: ignore[call-arg]
        cache.put(name, source)
    return source


def _data(value: Any) -> Any:
    """Return a value as JSON for a script element: no text in it can end the element."""
    from markupsafe import Markup

    text = json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    unsafe = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    return Markup(re.sub("[<>&\u2028\u2029]", lambda found: unsafe[found[0]], text))


@functools.lru_cache(maxsize=4096)
def _label(text: str) -> Any:
    """Return a text for a page that may be broken after a colon or a comma, and in a very long word."""
    from markupsafe import Markup, escape

    parted = JOINTS.sub("\x1f", text)
    parted = LONG_WORDS.sub("\\1\x1f", parted) if len(parted) > LONG else parted
    return Markup("<wbr>").join(map(escape, parted.split("\x1f"))) if "\x1f" in parted else escape(parted)


def _script(source: str) -> Any:
    """Return the source of a library for a script or style element, which it must not end."""
    from markupsafe import Markup

    return Markup(re.sub(r"</(?=script|style)", r"<\\/", source, flags=re.IGNORECASE))
