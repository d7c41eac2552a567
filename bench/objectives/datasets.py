"""Tables of numbers that scikit-learn ships."""

from importlib.metadata import distribution

import numpy as np
from numpy.typing import NDArray


def table(name: str, *, header: bool) -> NDArray[np.float64]:
    """Return a table of scikit-learn, ``[rows, columns]``, float64; the last column is the label.

    The file is read from the installed distribution, because scikit-learn itself takes more than a second to import.

    Args:
        name: name of a CSV file in scikit-learn's folder of data sets, such as "breast_cancer.csv" or "digits.csv.gz".
        header: whether the first line of the file is not part of the table.
    """
    path = distribution("scikit-learn").locate_file(f"sklearn/datasets/data/{name}")
    return np.loadtxt(str(path), delimiter=",", skiprows=int(header))
