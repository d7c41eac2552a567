"""The command ``bench check-objective``."""

from json import dumps

import click

from bench.cli import options
from bench.cli.errors import UNWRITTEN, CommandError, ExitCode, reported
from bench.cli.terminal import echo, echo_json


@click.command(
    name="check-objective",
    epilog="Exit codes: 0 all checks passed, 2 an objective is at fault, or wrong usage.\n\n"
    "\b\n"
    "Examples:\n"
    "  bench check-objective ./mine.py::Mine\n"
    "  bench check-objective ./mine.py::Mine:dim=2,20 gaussian-quadratic",
)
@click.argument(
    "objective", nargs=-1, required=True, metavar="OBJECTIVE...", shell_complete=options.complete("objective")
)
@options.data_dir
@options.no_plugins
@options.json_option
@reported(UNWRITTEN)
def command(objective: tuple[str, ...], json: bool) -> None:
    """Check objectives of your own before measuring.

    Their declared facts, q, f and the exact value are checked.

    Each check prints a line: ok, FAULT with what to do, or - with the reason why there is nothing to check. After a
    fault, the remaining checks are skipped, since they rely on the earlier ones. Every command that measures runs these
    checks first.
    """
    from pathlib import Path

    from bench.measurement.objective_checks import CHECKS, Fault, NotJudged, ObjectiveTrial, judge
    from bench.planning.instances import expand
    from bench.planning.selectors import label, parse

    found, faulty = dict[str, dict[str, str]](), list[str]()
    for instance in (each for text in objective for each in expand(parse(text).anchored(Path()), "objective")):
        trial, name = ObjectiveTrial(instance), label(instance)
        lines = found.setdefault(name, {})
        if not json:
            echo(name)
        for check in CHECKS:
            what = str(check.__doc__).partition("\n")[0].removeprefix("Check that ").replace("``", "").rstrip(".")
            try:
                judge(check, trial)
                lines[what] = "ok"
            except NotJudged as reason:
                lines[what] = f"- ({reason})"
            except Fault as fault:
                lines[what] = f"FAULT: {fault}"
                faulty.append(name)
            if not json:
                echo(f"  {lines[what]:5} {what}" if lines[what] == "ok" else f"  {lines[what]}  [{what}]")
            if faulty[-1:] == [name]:
                break
    if json:
        echo_json(dumps(found))
    if faulty:
        raise CommandError(
            f"{len(faulty)} of {len(found)} objectives are at fault: {', '.join(faulty)}.", ExitCode.USAGE
        )
