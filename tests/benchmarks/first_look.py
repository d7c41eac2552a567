"""How long a newcomer waits for ``bench run``: ``python -m tests.benchmarks.first_look [--before PATH_OR_COMMIT]``.

Each study runs in a new process and a new folder. *table* is the time until its first table is on the screen, *all*
the time until tables and figures are written. With ``--before``, another version of the code, a folder or a commit,
runs the studies in turn with this one, and the last columns have the ratio of its times to those of this version. The
default study is not compared, since its objectives differ. The machine should be quiet: two cores take five minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.records.environment import environment

ROOT = Path(__file__).parents[2]
SPEC = Path(__file__).with_suffix(".toml")
THREE = ("-e", "rloo:n=2,4", "-e", "reparameterization", "-o", "gaussian-quadratic:dim=10")
OWN = ("-e", f"{Path(__file__).with_name('own.py')}::Own", "-e", "rloo:n=2", "-o", "gaussian-quadratic:dim=10")
STUDIES: dict[str, tuple[str, ...]] = {"118 cells": (str(SPEC),), "three cells": THREE, "an own estimator": OWN}
"""The studies that two versions are compared on, with the words of ``bench run`` for each."""
DEFAULT = "default study"


@dataclass
class Times:
    """Seconds of each lap until the first row of a table, and until the end."""

    table: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def run(code: Path, words: Sequence[str], times: Times) -> None:
    """Run ``bench run`` with the code in a folder, and add its times.

    Raises:
        CalledProcessError: the command has failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench", "run", *words, "--out", str(Path(folder) / "study")]
        variables = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        begin, first = time.perf_counter(), None
        with subprocess.Popen(
            command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if first is None and "variance" in line:
                    first = time.perf_counter() - begin
        if process.returncode or first is None:
            raise subprocess.CalledProcessError(process.returncode, command)
        times.table.append(first)
        times.whole.append(time.perf_counter() - begin)


def measured(now: Path, before: Path | None, laps: int, studies: dict[str, tuple[str, ...]]) -> dict[str, list[Times]]:
    """Return the times of each study: those of the code ``now``, and of the code ``before`` if there is one."""
    codes = [now, *([before] if before else [])]
    found = {name: [Times() for _ in codes] for name in studies}
    for name, words in studies.items():
        for lap in range(laps):
            order = range(len(codes)) if lap % 2 == 0 else reversed(range(len(codes)))
            for version in order:
                run(codes[version], words, found[name][version])
                print(f"{name}, lap {lap + 1}: {'now' if version == 0 else 'before'} {shown(found[name][version])}")
    return found


def shown(times: Times) -> str:
    """Return the times of the last lap as text."""
    return f"table {times.table[-1]:.1f} s, all {times.whole[-1]:.1f} s"


def page(found: dict[str, list[Times]], laps: int) -> str:
    """Return the times as a Markdown table."""
    facts = environment()
    lines = [
        f"{facts['cpu']}, {os.cpu_count()} cores, Python {facts['python']}, torch {facts['torch']}.",
        f"Medians of {laps} laps.",
        "",
        "| study | table, s | all, s | table before, s | all before, s | table before / now | all before / now |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, (now, *before) in found.items():
        cells = [f"{median(now.table):.1f}", f"{median(now.whole):.1f}", *[""] * 4]
        for old in before:
            ratios = [
                median(a / b for a, b in zip(x, y, strict=True))
                for x, y in ((old.table, now.table), (old.whole, now.whole))
            ]
            cells[2:] = [f"{median(old.table):.1f}", f"{median(old.whole):.1f}", *(f"{ratio:.2f}" for ratio in ratios)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@contextmanager
def code_of(given: str | None) -> Iterator[Path | None]:
    """Yield the folder of another version of the code: the given folder, or a worktree of the given commit."""
    if given is None or Path(given).is_dir():
        yield Path(given).resolve() if given else None
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "before"
        subprocess.run([*git, "add", "--detach", "-q", str(folder), given], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the studies and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.first_look", description=__doc__)
    parser.add_argument("--before", help="a folder or a commit with the code to compare with")
    parser.add_argument("--laps", type=int, default=2, help="how often each study runs with each version [2]")
    parser.add_argument("--only", choices=[*STUDIES, DEFAULT], help="time this study alone")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    wanted = {name: words for name, words in STUDIES.items() if options.only in (None, name)}
    with code_of(options.before) as before:
        found = measured(ROOT, before, options.laps, wanted)
    if options.only in (None, DEFAULT):
        found |= measured(ROOT, None, options.laps, {DEFAULT: ()})
    text = page(found, options.laps)
    print(text)
    if options.out:
        options.out.write_text(f"# First look\n\n{__doc__.split(': ``')[0]}.\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
