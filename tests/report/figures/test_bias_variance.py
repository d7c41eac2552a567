import pytest

from tests.report.figures.drawing import figure
from tests.report.records import moments


def test_a_bias_that_was_not_found_is_an_upper_bound():
    records = [moments("a", "o", 1.0), moments("b", "o", 1.0, bias=0.5, unbiased=False)]
    ax = figure("bias-variance", records).axes[0]
    arrows = [text.xy for text in ax.texts if text.arrow_patch is not None]
    assert arrows == [(1.0, pytest.approx(records[0]["summary"]["bias_bound"] ** 2))]
