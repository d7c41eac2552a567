"""A user's code cannot end the program."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.planning.loading import load
from bench.planning.selectors import parse
from bench.planning.switches import SWITCHES
from bench.planning.user_code import Ended, contained, set_apart


class Stop(BaseException):
    """An exception that ``except Exception`` does not catch."""


def raising(error):
    def act():
        raise error

    return act


ENDS = {
    "sys.exit": (sys.exit, "SystemExit()"),
    "sys.exit(0)": (lambda: sys.exit(0), "SystemExit(0)"),
    "os._exit(0)": (lambda: os._exit(0), "SystemExit(0)"),
    "exit": (raising(SystemExit("done")), "SystemExit(done)"),
    "GeneratorExit": (raising(GeneratorExit), "GeneratorExit()"),
    "own": (raising(Stop("now")), "Stop(now)"),
}


@pytest.mark.parametrize(("act", "said"), ENDS.values(), ids=ENDS)
def test_what_would_end_the_program_is_an_error(act, said):
    before = os._exit
    with pytest.raises(Ended) as raised, contained():
        act()
    assert f"{said}, which would end the program (test_user_code.py, line" in str(raised.value)
    assert os._exit is before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_other_exceptions_pass(error):
    with pytest.raises(error), contained():
        raise error


def test_an_interrupt_where_interrupts_are_ignored_comes_from_the_code():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(Ended, match=r"KeyboardInterrupt\(\), which would end the program"), contained():
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


CHILDREN = {
    "os._exit": ("os._exit(7)", 7),
    "sys.exit": ("sys.exit(7)", 7),
    "sys.exit()": ("sys.exit()", 0),
    "sys.exit with a text": ("sys.exit('done')", 1),
    "an exception": ("raise ValueError", 1),
    "the end of the code": ("pass", 0),
}


@pytest.mark.parametrize(("act", "status"), CHILDREN.values(), ids=CHILDREN)
def test_a_child_process_ends_with_the_code_that_forked_it(act, status):
    script = (
        "import os, sys\nfrom bench.planning.user_code import contained\n"
        f"with contained():\n    child = os.fork()\n    if child == 0: {act}\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{status}\n"


@pytest.mark.parametrize("error", [None, ValueError, SystemExit])
def test_the_working_folder_is_the_old_one_afterwards(tmp_path, monkeypatch, error):
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    with suppress(Ended, ValueError), contained():
        os.chdir("inner")
        if error:
            raise error
    assert Path.cwd() == tmp_path


def test_a_working_folder_that_was_removed_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with contained():
        os.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        Path.cwd()
    os.chdir(tmp_path)


TURNS = (
    "torch.set_grad_enabled(False)",
    "torch.set_default_dtype(torch.float64)",
    "torch.set_default_device('meta')",
    "torch.set_num_threads(torch.get_num_threads() + 1)",
    "torch.use_deterministic_algorithms(True, warn_only=True)",
    "torch.autograd.set_detect_anomaly(True)",
    "torch.set_autocast_enabled('cpu', True)",
    "torch.set_autocast_dtype('cpu', torch.float16)",
    "torch.set_float32_matmul_precision('medium')",
    "torch.backends.cudnn.benchmark = True",
    "torch.distributions.Distribution.set_default_validate_args(not torch.distributions.Distribution._validate_args)",
    "np.seterr(all='raise')",
    *(("torch.backends.cuda.matmul.fp32_precision = 'tf32'",) if hasattr(torch.backends, "fp32_precision") else ()),
)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("error", [None, ValueError, SystemExit])
@pytest.mark.parametrize("turn", TURNS)
def test_the_switches_of_torch_are_the_old_ones_afterwards(turn, error):
    before = [get() for get, _ in SWITCHES]
    with suppress(Ended, ValueError), set_apart():
        exec(turn, {"torch": torch, "np": np})
        assert [get() for get, _ in SWITCHES] != before
        if error:
            raise error
    assert [get() for get, _ in SWITCHES] == before
    assert torch.zeros(()).device.type == "cpu"


def test_a_stream_that_a_users_code_closes_stays_open(capsys):
    with set_apart():
        print("to stderr")
        sys.stdout.close()
        print("and again")
    print("a result")
    assert capsys.readouterr() == ("a result\n", "to stderr\nand again\n")


def test_a_file_that_turns_gradients_off_leaves_them_on_for_others(tmp_path):
    (tmp_path / "quiet.py").write_text(
        "import dataclasses, torch\nfrom estimators import RLOO\n"
        "@dataclasses.dataclass(frozen=True)\nclass Quiet(RLOO):\n    pass\n"
        "torch.set_grad_enabled(False)\n"
    )
    load(parse(f"{tmp_path}/quiet.py::Quiet"), "estimator")
    assert torch.is_grad_enabled()
