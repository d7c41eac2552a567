"""Settings: which values are refused."""

import pytest

from bench.planning.settings import Settings


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"replicates": 0}, "replicates is a whole number of at least 1"),
        ({"replicates": 2.5}, "replicates is a whole number"),
        ({"replicates": True}, "replicates is a whole number"),
        ({"seed": -1}, "seed is a whole number of at least 0"),
        ({"dtype": "float16"}, "dtype is float32 or float64"),
        ({"device": "tpu"}, "device is cpu or cuda"),
    ],
)
def test_settings_that_cannot_be_used(bad, says):
    with pytest.raises(ValueError, match=says):
        Settings(**bad)
