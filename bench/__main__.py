"""The entry point of the scripts ``bench`` and ``stochgrad-bench`` and of ``python -m bench``."""

import atexit
import faulthandler
import gc
import os
import sys
from pathlib import Path


def open_what_is_closed() -> None:
    """Open the standard streams that are closed, as after ``bench >&-``. What is written there is discarded."""
    # A file takes the lowest free descriptor, so in this order each gets its own one back, if no other file has it.
    nowhere = Path(os.devnull)
    sys.stdin = sys.stdin or nowhere.open(encoding="utf-8")
    sys.stdout = sys.stdout or nowhere.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nowhere.open("w", encoding="utf-8")


def main() -> None:
    """Run the command line; exit with an error if another project's package ``bench`` is installed over this one."""
    import bench
    from bench import interrupts

    if not (bench.__doc__ or "").startswith("stochgrad-bench") or not Path(__file__).with_name("default.toml").exists():
        sys.exit(
            f"Error: the package 'bench' in {Path(__file__).parent} is not stochgrad-bench's: another distribution has "
            "overwritten it (frappe-bench has the same name). Install stochgrad-bench in an environment of its own."
        )
    interrupts.listen()
    open_what_is_closed()
    try:
        from bench.cli import main as run

        faulthandler.enable()  # a crash of the interpreter, as in a user's extension, names the line
        atexit.register(gc.freeze)  # a last collection among the objects of torch would take a third of a second
        sys.exit(run())
    except KeyboardInterrupt:  # outside of any command
        sys.exit(interrupts.end())


if __name__ == "__main__":
    main()
