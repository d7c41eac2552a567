"""The command ``bench audit``."""

import sys
from functools import partial
from json import dumps

import click

from bench.cli import options, values
from bench.cli.errors import UNWRITTEN, reported
from bench.cli.terminal import echo, echo_json

size = partial(click.option, metavar="N")


@click.command(
    name="audit",
    epilog="Exit codes: 0 the audit was made, whatever it found, 1 the loss raised an exception, 2 the loss is at "
    "fault, or wrong usage.\n\n"
    "\b\n"
    "Examples:\n"
    "  bench audit mine.py::loss\n"
    "  bench audit mine.py::loss --group 8 --beta 0.04",
)
@click.argument("loss", metavar="FILE.py::LOSS")
@size("--group", type=values.Count(), default=4, help="Samples for each prompt [4].")
@size("--prompts", type=values.Count(), default=4, help="Prompts of a batch [4].")
@size("--vocabulary", type=values.Count(2), default=3, help="Number of tokens; token 0 ends a sequence [3].")
@size("--length", type=values.Count(), default=3, help="Most tokens of a sequence [3].")
@click.option(
    "--beta",
    type=float,
    metavar="NUMBER",
    help="Weight of KL(pi||ref) that the loss is meant to have [the one that fits best].",
)
@options.number(
    "--samples",
    type=values.Count(100),
    help="Sampled batches for each policy, if there are more than 100,000 [10000]; of a loss that has to be called for "
    "each, if there are more than 1,000 [1000].",
)
@options.no_plugins
@options.json_option
@options.quiet_option
@reported(UNWRITTEN)
def command(
    loss: str,
    group: int,
    prompts: int,
    vocabulary: int,
    length: int,
    beta: float | None,
    samples: int | None,
    json: bool,
    quiet: bool,
) -> None:
    """Say which gradient a policy-gradient loss has on average.

    LOSS names a function in a file, such as mine.py::loss. It returns one number, which is minimised, and is called
    with the arguments that it names: any of logp, old_logp, ref_logp, mask and tokens, [prompts, group, length], and
    rewards, [prompts, group].

    Its expected gradient is computed on nine small language models, whose texts can all be listed. The computation is
    exact, unless a model has too many possible batches: then batches are sampled. The gradient is compared in scale and
    angle with the gradients of the expected reward, of functions of it, and of divergences from a reference model. The
    loss runs in this process.
    """
    from bench.audit import audit
    from bench.cli.progress import Plain
    from bench.planning.loading import load_function

    found = audit(
        load_function(loss),
        name=loss,
        group=group,
        prompts=prompts,
        vocabulary=vocabulary,
        length=length,
        beta=beta,
        samples=samples,
        say=(lambda _: None) if quiet else Plain(sys.stderr).say,
    )
    if json:
        echo_json(dumps(found.to_json()))
    else:
        echo(str(found))
