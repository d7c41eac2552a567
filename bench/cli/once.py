"""The report of a study that has not changed: what was printed is printed again, and files stay as they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.cli.terminal import recorded, replay, screen
from bench.records import cache, files, installed
from bench.records.identity import digest
from bench.records.store import uncollected

if TYPE_CHECKING:
    from bench.report import Report

Digests = list[str]
"""Digests of files that a report is made of."""


class Write(Protocol):
    """A function that writes the files of a report and returns their paths.

    Files that are already as this report would make them are not written again. Their paths are returned all the same.
    """

    def __call__(self, report: Report, read: Digests, /, *, called: Mapping[str, str] | None, **how: Any) -> list[Path]:
        """Write the files of a report.

        Args:
            report: the report.
            read: digests of the measurements that were read for the report.
            called: the argument of ``Report.write``.
            how: all other arguments of ``Report.write`` but the folder.
        """


def once(
    make: Callable[[Write], None],
    folder: Path,
    measured: Callable[[], Digests],
    others: Callable[[], Digests],
    *asked: object,
    part: object = None,
    silent: bool = False,
) -> None:
    """Make a report, which is a text on the terminal and files in a folder, unless it was made before.

    ``make`` prints the text, and calls a function that writes the files. If the text and the files exist already, made
    from the same inputs, ``make`` is not called: the text is printed again, and the files stay. If the files exist, but
    no text for these options and this terminal, ``make`` is called, and the function that it calls leaves the files as
    they are. A file that was changed or removed since it was written counts as missing.

    What is written depends on the files to report on, the options of the report, the code of this project and the
    versions of all packages. It does not depend on the command: after ``bench report``, ``bench run`` need not write
    the report again. What is printed depends on more: all options of the command, and the width, colours and encoding
    of the terminal.

    Args:
        make: prints the text of the report. Its argument is the function that writes the files.
        folder: the folder of the files.
        measured: a function that returns the present digests of the measurements.
        others: a function that returns digests of all other files that the report is made of. Called before and after
            the report is made: if the digests differ, this report is made again the next time.
        asked: all options that decide what is printed, as JSON can hold it.
        part: which part of the measurements is reported, as JSON can hold it; None for all.
        silent: True to call ``make`` in any case, and to keep no text.
    """
    before, place, ours = others(), str(folder.resolve()), installed.digest()
    shown = screen()
    look = (shown.width, shown.color_system, shown.encoding, shown.is_terminal, shown.no_color)
    here = (str(Path.cwd()), str(folder), sys.argv[0])
    text = f"report-{digest([place, here, look, part, asked, ours])}.json"
    if not silent and (held := _held(text, folder, lambda: [measured(), before])):
        replay(held["printed"])
        return
    kept = dict[str, dict[str, Any]]()

    def write(report: Report, read: Digests, /, *, called: Mapping[str, str] | None, **how: Any) -> list[Path]:
        names = called and [*called.items()]
        name = f"files-{digest([place, part, report.cost, names, how, ours])}.json"
        if held := _held(name, folder, lambda: [read]):
            report.whole = held["whole"]
        else:
            made = report.write(folder, called=called, **how)
            written = {str(path.relative_to(folder)): content for path, content in made.items()}
            held = {"inputs": [read], "files": written | _others(folder, written), "whole": report.whole}
        if not report.undrawn:  # what could not be drawn may succeed the next time
            kept[name] = held
            kept[text] = {"inputs": [read, before], "files": held["files"], "printed": printed}
        return [folder / name for name, content in held["files"].items() if content]

    with uncollected(), recorded() as printed:
        make(write)
    if silent:
        kept.pop(text, None)
    if kept and others() == before:
        for name, receipt in kept.items():
            cache.put(name, json.dumps(receipt))


def _held(name: str, folder: Path, inputs: Callable[[], list[Digests]]) -> dict[str, Any]:
    """Return a receipt in the cache; empty if there is none, or if its inputs or a file that it names have changed."""
    held: dict[str, Any] = json.loads(cache.get(name) or "{}")
    if not held or held["inputs"] != inputs():
        return {}
    known = held["files"]
    contents = {each: files.digest(folder / each) for each, content in known.items() if content}
    return held if known == contents | _others(folder, contents) else {}


def _others(folder: Path, written: Mapping[str, str]) -> dict[str, str]:
    """Return an empty text for every file among the figures, by its name, that is not among those written.

    A report removes some of the files that others left.
    """
    names = (str(path.relative_to(folder)) for path in (folder / "figures").glob("*"))
    return {name: "" for name in names if name not in written}
