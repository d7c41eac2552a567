"""The command ``bench new``."""

import keyword
import os
import shlex
import sys
from pathlib import Path
from typing import cast

import click

from bench.cli.errors import UNWRITTEN, CommandError, ExitCode, program, reported
from bench.cli.terminal import echo
from bench.planning.catalogue import Kind, canonical_name, kebab
from bench.records import files

TEMPLATES = Path(__file__).with_name("templates")
SUFFIXES = {"objective": ".py", "estimator": ".py", "study": ".toml"}
"""What can be made, and how the name of its file ends."""
TAKEN = sys.stdlib_module_names | {"bench", "estimators", "torch", "numpy"}
"""Modules that a file in the working folder would hide."""


@click.command(
    name="new",
    epilog="\b\n"
    "Examples:\n"
    "  bench new objective mine.py\n"
    "  bench new objective mine.py --class --name Mine\n"
    "  bench new estimator my_estimator.py --name Shrunk\n"
    "  bench new study study.toml",
)
@click.argument("what", type=click.Choice([*SUFFIXES]))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the objective or estimator in the file [problem, or Mine].")
@click.option("--class", "as_class", is_flag=True, help="Write the objective as a class, with parameters.")
@reported(UNWRITTEN)
def command(what: str, file: Path, name: str | None, as_class: bool) -> None:
    """Write a file to start from.

    It holds an objective, an estimator or a study, and runs as it is. Its comments say what to change, and the command
    says what to type next. A file that exists is never overwritten.
    """
    if as_class and what != "objective":
        raise CommandError("--class belongs to `bench new objective`.", ExitCode.USAGE)
    if name is not None and what == "study":
        raise CommandError("A study has the name of its file: leave out --name.", ExitCode.USAGE)
    name = name or ("Mine" if as_class or what == "estimator" else "problem")
    _check_file(file, SUFFIXES[what])
    _check_name(what, name)
    text = (TEMPLATES / f"{what}{'_class' * as_class}.txt").read_text(encoding="utf-8")
    if os.path.lexists(file):
        raise CommandError(f"{file} exists already, and stays as it is. Give another name.", ExitCode.USAGE)
    files.write(file, text.replace("NAME", name))
    echo("\n  ".join([f"{file} runs as it is. Next:", *_next(what, file, name)]))


def _check_file(file: Path, suffix: str) -> None:
    """Raise ``CommandError`` if a file's name ends otherwise, or if the file would hide a module from Python."""
    if file.suffix != suffix:
        message = f"{str(file)!r} must end in {suffix}, as in {file.with_suffix(suffix)}."
        raise CommandError(message, ExitCode.USAGE)
    if suffix == ".py" and file.stem in TAKEN:
        message = f"{file.name} would hide the module {file.stem} from the files beside it. Give another name."
        raise CommandError(message, ExitCode.USAGE)


def _check_name(what: str, name: str) -> None:
    """Raise ``CommandError`` unless the name can stand in Python and is no name of the catalogue."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise CommandError(f"{name!r} is not a name in Python. Use letters, digits and _.", ExitCode.USAGE)
    if what != "study" and (known := canonical_name(cast(Kind, what), kebab(name))):
        message = f"{name} is the name of the catalogue's {known}, and records would mix them up. Give another name."
        raise CommandError(message, ExitCode.USAGE)


def _next(what: str, file: Path, name: str) -> list[str]:
    """Return the commands to type next."""
    path = shlex.quote(str(file) if file.is_absolute() else f".{os.sep}{file}")
    if what == "study":
        return [f"{program()} run {path}", f"{program()} report {shlex.quote(f'results/{file.stem}')}"]
    if what == "estimator":
        return [
            f"python -m pytest -q {path}",
            f"{program()} run -e {path}::{name}:n=1,4 -e rloo:n=4 -o bernoulli-quadratic:dim=10",
        ]
    return [
        f"{program()} check-objective {path}::{name}",
        f"{program()} run -o {path}::{name} -e rloo:n=4 -e enumeration -e straight-through",
        f"{program()} train -o {path}::{name} -e rloo:n=4 -e straight-through --steps 200 --seeds 2 --lr 0.1",
    ]
