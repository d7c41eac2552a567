"""The table that most figures are drawn from."""

import pytest

from bench.report.prepared import prepared
from tests.report.records import study


@pytest.fixture(scope="module")
def table():
    return prepared(study())
