"""The command ``bench measure``."""

from pathlib import Path

import click

from bench.cli import options, values
from bench.cli.errors import ExitCode, reported
from bench.cli.output import finish, print_json, print_table
from bench.cli.terminal import echo


@click.command(
    name="measure",
    epilog="\b\n"
    "Examples:\n"
    "  bench measure --gradients g.npy --exact g0.npy\n"
    "  bench measure --gradients grpo.npy --gradients rloo.npy --exact g0.npy --out results/policy",
)
@click.option(
    "--gradients",
    type=options.PATH,
    multiple=True,
    required=True,
    metavar="FILE.npy",
    help="Independent gradients of one point, [replicates, size]. Repeatable: all of one problem.",
)
@click.option("--exact", type=options.PATH, metavar="FILE.npy", help="The exact gradient, [size].")
@click.option("--problem", default="given", metavar="NAME", help="Name of the problem [given].")
@click.option(
    "--evaluations",
    type=values.Positive(),
    default=1.0,
    metavar="N",
    help="Evaluations of f that one gradient took [1].",
)
@click.option("--unbiased", is_flag=True, help="Declare them unbiased: `bench check` then fails for a bias.")
@options.out(help="A study folder for the records and the report [nothing is written].")
@options.json_option
@options.quiet_option
@reported()
def command(
    gradients: tuple[Path, ...],
    exact: Path | None,
    problem: str,
    evaluations: float,
    unbiased: bool,
    out: Path | None,
    json: bool,
    quiet: bool,
) -> ExitCode:
    """Measure gradients that were made elsewhere.

    The files are those of numpy.save, made by JAX, Julia, a trainer or anything else. The bias, scale, direction and
    variance of the gradients are measured, with intervals and in words, as in every other study. A file can be larger
    than the memory.
    """
    names = [path.stem for path in gradients]
    if len(set(names)) < len(names):
        raise click.UsageError("Two files of gradients have one name, which is their name in the table. Rename one.")
    from bench.measurement.given import Given, measure_given, read
    from bench.measurement.threads import single_thread
    from bench.records import store
    from bench.report import Report

    target = None if exact is None else read(exact)
    with single_thread():
        records = [
            measure_given(Given(name, read(path), target, problem, evaluations=evaluations, unbiased=unbiased))
            for name, path in zip(names, gradients, strict=True)
        ]
    for record in records[1:]:
        if record["size"] != records[0]["size"]:
            raise click.UsageError(
                f"{record['estimator']} has {record['size']} coordinates and {names[0]} {records[0]['size']}: "
                "gradients of one problem have equally many. Measure them in two commands, with a --problem for each."
            )
    if out is not None:
        older = {record["run"]: record for record in store.read(out, lean=True)}
        with store.Store(out) as study:
            for record in records:
                study.append(record)
                if older.get(record["run"], record)["fingerprint"] != record["fingerprint"] and not quiet:
                    held = f"{out} held other gradients of the name {record['estimator']}, which these replace"
                    echo(f"{held}. Another name of the file, or another --out, keeps both.", err=True)
        return finish(records, out, json=json, quiet=quiet)
    if json:
        print_json(records, None, ())
    else:
        report = Report(records)
        report.whole = ""  # nothing is written
        print_table(report)
    return ExitCode.FINE
