"""Settings of a training: which values are refused."""

import re

import pytest
import torch

from bench.training.settings import Training


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is a whole number of at least 1 (got 0)."),
        ({"seeds": 1.5}, "seeds is a whole number"),
        ({"measure_every": 0}, "measure_every is a whole number"),
        ({"replicates": -1}, "replicates is a whole number of at least 0"),
        ({"optimizer": "lion"}, "optimizer is one of adam, sgd, rmsprop (got 'lion')."),
        ({"rate": -1e-3}, "a finite number above 0 (got -0.001)."),
        ({"rate": float("nan")}, "a finite number above 0 (got nan)."),
        ({"rate": "fast"}, "a finite number above 0 (got 'fast')."),
        ({"dtype": "float16"}, "dtype is float32 or float64"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Training(**wrong)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device is cuda, and torch finds no CUDA device here\. Use device='cpu'\."):
        Training(device="cuda")
