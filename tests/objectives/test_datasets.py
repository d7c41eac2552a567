"""Tables of scikit-learn equal what its own loaders return."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from bench.objectives.datasets import table


@pytest.mark.parametrize(
    ("name", "header", "loader"),
    [("breast_cancer.csv", True, load_breast_cancer), ("digits.csv.gz", False, load_digits)],
)
def test_a_table_is_what_the_loader_returns(name, header, loader):
    features, labels = loader(return_X_y=True)
    assert np.array_equal(table(name, header=header), np.column_stack([features, labels]))
