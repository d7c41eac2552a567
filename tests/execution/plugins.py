"""Plug-ins that misbehave, and what must come of them: ``python -m tests.execution.plugins``.

The command runs the whole table, with one process and with two, and prints PASS or FAIL for each row. All estimators of
the table are measured in one study, beside two cells of the catalogue, whose numbers must be those of a study without
plug-ins, bit for bit. Files that cannot be imported, objectives, and the gate have commands of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD = """
import ctypes, errno, os, signal, sys, threading, time
from dataclasses import dataclass
import numpy as np
import torch
from estimators import Estimator, ScoreFunction, draw

class Odd(BaseException): pass

class Mute(Exception):
    def __str__(self): raise ValueError("mute")

def good(f, q, generator):
    return ScoreFunction()(f, q, generator)
"""
GOOD = "return good(f, q, generator)"
CATALOGUE = ("-e", "rloo:n=2", "-e", "score-function")
STUDY = ("-o", "bernoulli-quadratic:dim=4", "--replicates", "2048", "--no-timing", "--quiet")
CLOCKS = ("wall_seconds", "adapt_seconds", "written", "environment")
TIMEOUT = 20
"""Seconds after which a cell without progress is given up: long, because the machine may be busy."""


@dataclass(frozen=True)
class Estimator:
    """An estimator that misbehaves.

    Args:
        name: the name of its class.
        call: the body of its ``__call__``.
        says: a pattern that the reason of its record must contain; None if it is measured.
        extra: more lines of its class.
        quick: whether the test suite has this row, too.
    """

    name: str
    call: str = GOOD
    says: str | None = None
    extra: str = ""
    quick: bool = False

    @property
    def text(self) -> str:
        """The source of the class."""
        body = "".join(f"\n        {line}" for line in self.call.splitlines())
        call = f"    def __call__(self, f, q, generator=None, state=None):{body}"
        extra = "".join(f"    {line}\n" for line in self.extra.splitlines())
        return f"@dataclass(frozen=True)\nclass {self.name}(Estimator):\n{extra}{call}\n"


WOULD_END = "which would end the program"
KILLED = r"was killed by signal {}\. No other cell is affected\..*\(evil\.py, line \d+\)"
ESTIMATORS = (
    Estimator("Segfault", "ctypes.string_at(0)", KILLED.format(11), quick=True),
    Estimator("Abort", "os.abort()", KILLED.format(6)),
    Estimator("CAbort", "ctypes.CDLL(None).abort()", KILLED.format(6)),
    Estimator("CExit", "ctypes.CDLL(None).exit(0)", r"ended with exit code 0\. No other", quick=True),
    Estimator("Killed", "os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9, as happens when memory runs out"),
    Estimator("Terminated", "os.kill(os.getpid(), signal.SIGTERM)", "killed by signal 15"),
    Estimator("SysExit", "sys.exit(0)", WOULD_END, quick=True),
    Estimator("SysExit7", "sys.exit(7)", WOULD_END),
    Estimator("OsExit", "os._exit(0)", WOULD_END, quick=True),
    Estimator("Generator", "raise GeneratorExit", WOULD_END),
    Estimator("Base", "raise Odd('odd')", WOULD_END, quick=True),
    Estimator("Interrupt", "raise KeyboardInterrupt", WOULD_END, quick=True),
    Estimator("Loop", "while True: pass", r"no progress for \d+ s, the limit of --cell-timeout.*\(evil\.py, line"),
    Estimator("CLoop", "import itertools; sum(itertools.repeat(0))", r"no progress for .*\(evil\.py, line"),
    Estimator("Sleep", "time.sleep(1e6)", r"no progress for .*\(evil\.py, line", quick=True),
    Estimator("Speechless", "raise Mute", r"Mute: its message cannot be read \(ValueError\)", quick=True),
    Estimator("Stop", "raise StopIteration", "StopIteration"),
    Estimator("EndOfFile", "raise EOFError('end')", "EOFError: end"),
    Estimator("System", "raise OSError(28, 'full')", r"OSError: \[Errno 28\] full"),
    Estimator("Pipe", "raise BrokenPipeError(errno.EPIPE, 'pipe')", "BrokenPipeError", quick=True),
    Estimator("Recursion", "return self(f, q, generator)", "RecursionError"),
    Estimator("Long", "raise ValueError('x' * 20_000_000)", "ValueError: x+…"),
    Estimator("Surrogate", "raise ValueError('\\ud800')", "ValueError", quick=True),
    Estimator("Nan", f"{GOOD} * float('nan')", "gradients were not finite"),
    Estimator("Infinite", f"{GOOD} * float('inf')", "gradients were not finite"),
    Estimator("Shape", f"{GOOD}[:1]", "returned a loss of shape"),
    Estimator("Axis", f"{GOOD}[None]", "returned a loss of shape"),
    Estimator("Text", "return 'a loss'", ""),
    Estimator("Number", "return 1.0", ""),
    Estimator("Detached", f"{GOOD}.detach()", "without a gradient"),
    Estimator("Memory", "return [bytearray(2**26) for _ in iter(int, 1)]", "MemoryError"),
    Estimator("Tensors", "return [torch.ones(2**26) for _ in iter(int, 1)]", "RuntimeError|MemoryError"),
    Estimator("Closes", "os.closerange(3, 256)\n" + GOOD, "closed its pipe|ended with exit code|was killed"),
    Estimator(
        "NoGrad", "torch.set_grad_enabled(False)\n" + GOOD, "without a gradient|does not require grad", quick=True
    ),
    Estimator("Dtype", "torch.set_default_dtype(torch.float64)\n" + GOOD),
    Estimator("Threads", "torch.set_num_threads(2)\n" + GOOD),
    Estimator("Seed", "torch.manual_seed(1)\n" + GOOD),
    Estimator("Deterministic", "torch.use_deterministic_algorithms(True)\n" + GOOD),
    Estimator("Numpy", "np.seterr(all='raise')\n" + GOOD),
    Estimator("Anomaly", "torch.autograd.set_detect_anomaly(True)\n" + GOOD),
    Estimator("Denormal", "torch.set_flush_denormal(True)\n" + GOOD),
    Estimator("Chdir", "os.chdir('/')\n" + GOOD, quick=True),
    Estimator(
        "Prints", "print('noise {'); os.write(1, b'noise ['); ctypes.CDLL(None).puts(b'noise')\n" + GOOD, quick=True
    ),
    Estimator("Streams", "sys.stdout.close(); sys.stderr.close()\n" + GOOD),
    Estimator("Forks", "if not os.fork(): sys.exit(0)\n" + GOOD),
    Estimator("Mutates", "x = draw(q, 1, generator); x.mul_(0) if not x.requires_grad else None\n" + GOOD),
    Estimator("Thread", "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n" + GOOD),
    Estimator("Global", GOOD + " * (1 + 0 * torch.rand(()))"),
    Estimator(
        "Unbiased", extra="unbiased = property(lambda self: 1 / 0)", says=r"ZeroDivisionError.*evil\.py", quick=True
    ),
    Estimator("NotBool", extra="unbiased = 'perhaps'", says="declares no fact: unbiased is 'perhaps'"),
    Estimator("Deterministic2", extra="deterministic = property(lambda self: sys.exit(0))", says=WOULD_END, quick=True),
    Estimator("State", extra="needs_state = property(lambda self: 1 / 0)", says="ZeroDivisionError"),
    Estimator("Families", extra="families = property(lambda self: 1 / 0)", says="ZeroDivisionError"),
    Estimator("Refuses", extra="def refuses(self, family): raise RuntimeError('no')", says="RuntimeError: no"),
)
IMPORTS = {
    "exit": "sys.exit(0)",
    "C exit": "ctypes.CDLL(None).exit(0)",
    "os exit": "os._exit(0)",
    "base exception": "raise Odd('odd')",
    "interrupt": "raise KeyboardInterrupt",
    "segfault": "ctypes.string_at(0)",
    "sleep": "time.sleep(1e6)",
    "syntax": "1 +",
    "division": "1 / 0",
}
"""Lines of a file that must not be imported."""
MADE = {
    "post-init raises": "def __post_init__(self): raise RuntimeError('no licence')",
    "post-init exits": "def __post_init__(self): sys.exit(0)",
    "post-init crashes": "def __post_init__(self): ctypes.string_at(0)",
    "fact crashes": "unbiased = property(lambda self: ctypes.string_at(0))",
    "fact hangs": "unbiased = property(lambda self: time.sleep(1e6))",
}
"""Lines of a class whose instances cannot be made."""
OBJECTIVE = """
import ctypes, os, sys, time
from dataclasses import dataclass
import torch
from torch.distributions import Normal
from bench.objectives import Objective, Problem

@dataclass(frozen=True)
class Mine(Objective):
    dim = 2
    family = Normal
    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"mean": torch.zeros(2, dtype=dtype, device=device, requires_grad=True)}
        def f(x):
            FBODY
            return x.square()
        def exact(theta):
            EBODY
            return (theta["mean"].square() + 1).mean()
        return Problem(theta, lambda t: Normal(t["mean"], torch.ones_like(t["mean"])), lambda q: f, exact)
"""
OBJECTIVES = {
    "f exits": ("sys.exit(0)", "pass"),
    "f ends the process": ("os._exit(0)", "pass"),
    "f crashes": ("ctypes.string_at(0)", "pass"),
    "f hangs": ("time.sleep(1e6)", "pass"),
    "exact exits": ("pass", "sys.exit(0)"),
    "exact crashes": ("pass", "ctypes.string_at(0)"),
}
"""Lines in an objective's f, and in its exact value."""
GATE = {
    "exit": ("sys.exit(0)", ""),
    "os exit": ("os._exit(0)", ""),
    "C exit": ("ctypes.CDLL(None).exit(0)", ""),
    "segfault": ("ctypes.string_at(0)", ""),
    "interrupt": ("raise KeyboardInterrupt", ""),
    "sleep": ("time.sleep(1e6)", ""),
    "exit at import": (GOOD, "sys.exit(0)"),
    "C exit at import": (GOOD, "ctypes.CDLL(None).exit(0)"),
    "end of file at import": (GOOD, "raise EOFError('end')"),
}
"""What has become of an estimator of a baseline: the body of its call, and a line of its file."""
Call = Callable[..., Any]
"""Runs a command of ``bench`` in the current folder; returns an object with ``code``, ``out`` and ``err``."""
Result = tuple[str, str]
"""A row of the table, and what is wrong with it: empty text if nothing is."""


def words(rows: Sequence[Estimator]) -> list[str]:
    """Write the rows to ``evil.py`` in the current folder, and return the words that name them."""
    Path("evil.py").write_text("\n".join([HEAD, *(row.text for row in rows)]), encoding="utf-8")
    return [word for row in rows for word in ("-e", f"./evil.py::{row.name}")]


def plain(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return records by their estimators, without clocks."""
    return {r["estimator"]: {key: value for key, value in r.items() if key not in CLOCKS} for r in records}


def records_in(folder: str) -> dict[str, dict[str, Any]]:
    """Return the records of a study folder by their estimators, without clocks."""
    lines = (Path(folder) / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return plain([json.loads(line) for line in lines])


def study(call: Call, rows: Sequence[Estimator], workers: int, timeout: float = TIMEOUT) -> Iterator[Result]:
    """Measure rows beside two cells of the catalogue, and judge them all."""
    if not Path("alone").exists():
        assert call("run", *CATALOGUE, *STUDY, "--out", "alone").code == 0
    options = ("--workers", str(workers), "--cell-timeout", str(timeout), "--out", f"with{workers}", "--json")
    done = call("run", *words(rows), *CATALOGUE, *STUDY, *options)
    yield "exit code 1", "" if done.code == 1 else f"code {done.code}: {done.err[-500:]}"
    try:
        json.loads(done.out)
        yield "stdout is one document", ""
    except ValueError as error:
        yield "stdout is one document", f"{error}: {done.out[:200]}"
    found, alone = records_in(f"with{workers}"), records_in("alone")
    for name, line in alone.items():
        yield f"{name} of the catalogue", "" if found.get(name) == line else "differs"
    for row in rows:
        line = found.get(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", row.name).lower(), {})
        wanted = "measured" if row.says is None else "failed"
        fits = line.get("outcome") == wanted and re.search(row.says or "", line.get("reason") or "")
        yield row.name, "" if fits else f"{line.get('outcome')}: {line.get('reason')}"


def imports(call: Call, chosen: Sequence[str]) -> Iterator[Result]:
    """Run studies with files that cannot be imported, and classes that cannot be made: nothing is written."""
    for name in chosen:
        row = Estimator("Mine", extra=MADE.get(name, ""))
        Path("mine.py").write_text(f"{HEAD}\n{row.text}\n{IMPORTS.get(name, '')}\n", encoding="utf-8")
        limit = ("--cell-timeout", "5") if "sleep" in name or "hangs" in name else ()
        done = call("run", "-e", "./mine.py::Mine", "-e", "rloo", *STUDY, *limit, "--out", "never")
        said = [line for line in done.err.splitlines() if line.startswith("Error: ")]
        good = done.code == 2 and len(said) == 1 and "mine.py" in said[0] and not Path("never").exists()
        yield f"import or making: {name}", "" if good else f"code {done.code}: {done.err[-500:]}"


def objectives(call: Call, chosen: Sequence[str]) -> Iterator[Result]:
    """Run studies of objectives that misbehave: one sentence names the objective, and nothing is written."""
    for name in chosen:
        body, exact = OBJECTIVES[name]
        Path("mine.py").write_text(OBJECTIVE.replace("FBODY", body).replace("EBODY", exact), encoding="utf-8")
        limit = ("--cell-timeout", "5") if "hangs" in name else ()
        done = call("run", "-e", "rloo", "-o", "./mine.py::Mine", *STUDY[2:], *limit, "--out", "never")
        said = [line for line in done.err.splitlines() if line.startswith("Error: The objective ")]
        good = done.code == 2 and len(said) == 1 and not Path("never").exists()
        yield f"objective: {name}", "" if good else f"code {done.code}: {done.err[-500:]}"


def gate(call: Call, chosen: Sequence[str]) -> Iterator[Result]:
    """Check a baseline whose estimator has been spoilt: no check passes, and the report is written."""
    cell = ("-e", "./mine.py::Mine", "-e", "rloo", "-o", "bernoulli-quadratic:dim=4")
    Path("mine.py").write_text(f"{HEAD}\n{Estimator('Mine').text}", encoding="utf-8")
    assert call("baseline", "save", "own", *cell, "--replicates", "1024", "--quiet").code == 0
    for name in chosen:
        body, line = GATE[name]
        Path("mine.py").write_text(f"{HEAD}\n{Estimator('Mine', body).text}\n{line}\n", encoding="utf-8")
        limit = ("--cell-timeout", "5") if "sleep" in name else ()
        Path("j.xml").unlink(missing_ok=True)
        done = call("check", "--baseline", "own", "--junit", "j.xml", "--quiet", *limit)
        good = done.code == 1 and Path("j.xml").exists() and "mine" in done.out and "1 identical" in done.out
        yield f"gate: {name}", "" if good else f"code {done.code}: {done.out[-300:]} {done.err[-500:]}"


@dataclass(frozen=True)
class Done:
    """What a command has left behind."""

    code: int
    out: str
    err: str


def command(*given: str) -> Done:
    """Run a command of ``bench`` as a process of its own, with 3 GB of addresses, in the current folder."""
    limited = ["bash", "-c", 'ulimit -v 3000000; exec "$0" "$@"', sys.executable, "-m", "bench", *given]
    done = subprocess.run(
        limited, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def table() -> Iterator[Result]:
    """Run everything, and yield every row."""
    for workers in (1, 2):
        for row, wrong in study(command, ESTIMATORS, workers):
            yield f"{row}, {workers} process{'es' * (workers > 1)}", wrong
    yield from imports(command, [*IMPORTS, *MADE])
    yield from objectives(command, [*OBJECTIVES])
    yield from gate(command, [*GATE])


def main() -> int:
    """Print PASS or FAIL for every row; return 1 if a row failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.execution.plugins", description=__doc__)
    parser.parse_args()
    failures = 0
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for row, wrong in table():
            failures += bool(wrong)
            print(f"{'FAIL' if wrong else 'PASS'} {row}{f': {wrong}' if wrong else ''}", flush=True)
        os.chdir("/")
    print(f"{failures} rows failed")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
