"""Fields of estimators and objectives: a number of numpy becomes Python's; a value of another type is named."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from bench import objectives
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.identity import identity
from bench.training.settings import Training
from estimators import (
    RELAX,
    RLOO,
    GappedStraightThrough,
    GumbelSoftmax,
    InvalidParameter,
    MeasureValued,
    PlainFields,
    ScoreFunction,
    Subset,
    catalogue,
)

CLASSES = [*catalogue().values(), *objectives.catalogue().values()]
FIELDS = [(cls, field.name) for cls in CLASSES for field in dataclasses.fields(cls)]
SCALARS = {bool: [np.bool_], int: [np.int64, np.int32, np.uint8], float: [np.float64, np.float32], str: [np.str_]}


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_scalars_of_numpy_are_numbers(cls, name):
    default = getattr(cls(), name)
    for scalar in SCALARS.get(type(default), []):
        if scalar is np.uint8 and default > 255:
            continue
        given = scalar(default)
        made, expected = cls(**{name: given}), cls(**{name: given.item()})
        assert type(getattr(made, name)) is type(default)
        assert made == expected
        assert repr(made) == repr(expected)
        assert identity(made) == identity(expected)
        again = pickle.loads(pickle.dumps(made))
        assert again == made
    array = np.array(default)
    if array.dtype != object:
        assert cls(**{name: array}) == cls()


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_a_value_of_another_type_is_named(cls, name):
    default = getattr(cls(), name)
    wrong = (
        [torch.tensor(1.0)]
        if default is None
        else [torch.tensor(default if type(default) is not str else 1), [default]]
    )
    for value in wrong:
        with pytest.raises(
            ValueError, match=rf"{cls.__name__} needs .*\(got {name}=.*, of type {type(value).__name__}\)"
        ):
            cls(**{name: value})


def test_cells_of_numpy_scalars_are_the_same_cell():
    plain = Cell(GumbelSoftmax(n=4, temperature=0.5), objectives.BernoulliQuadratic(dim=3))
    numpy = Cell(
        GumbelSoftmax(n=np.int64(4), temperature=np.float32(0.5)), objectives.BernoulliQuadratic(dim=np.int32(3))
    )
    assert plain.id == numpy.id


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: MeasureValued(coupled=1), "MeasureValued needs coupled=True or False (got coupled=1, of type int). "
         "Use MeasureValued(coupled=True)."),
        (lambda: RELAX(relaxed="yes"), "RELAX needs relaxed=True or False (got relaxed='yes', of type str). "
         "Use RELAX(relaxed=False)."),
        (lambda: RLOO(n=4.0), "RLOO needs a whole number n (got n=4.0, of type float). Use RLOO(n=2)."),
        (lambda: RLOO(n=np.float64(4)), "RLOO needs a whole number n (got n=4.0, of type float). Use RLOO(n=2)."),
        (lambda: RLOO(n=torch.tensor(4)), "RLOO needs a whole number n (got n=tensor(4), of type Tensor). "
         "Use RLOO(n=2)."),
    ],
)  # fmt: skip
def test_sentences(make, sentence):
    with pytest.raises(InvalidParameter) as refusal:
        make()
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("make", [
    lambda v: ScoreFunction(baseline=v), lambda v: GappedStraightThrough(gap=v),
])  # fmt: skip
def test_a_tensor_is_named(make):
    with pytest.raises(InvalidParameter, match=r"tensor\(0\.2500\), of type Tensor\)"):
        make(torch.tensor(0.25))


def test_settings_and_subsets_of_numpy_scalars():
    assert repr(Settings(np.int64(1000), seed=np.uint8(3))) == repr(Settings(1000, seed=3))
    numpy = Training(steps=np.int32(5), seeds=np.int64(2), rate=np.float32(0.5), measure_every=np.int64(3))
    assert repr(numpy) == repr(Training(steps=5, seeds=2, rate=0.5, measure_every=3))
    assert type(Subset(torch.zeros(4), np.int64(2)).k) is int


@dataclasses.dataclass(frozen=True)
class Mine(PlainFields):
    widths: tuple[int, ...] = (3, 4)
    rate: float = 1.0


@dataclasses.dataclass(frozen=True)
class MineChecked(Mine):
    def __post_init__(self):
        assert type(self.rate) is float


def test_a_class_of_ones_own():
    for cls in (Mine, MineChecked):
        made = cls(widths=(np.int64(3), np.int32(5)), rate=np.float64(2.0))
        assert repr(made) == f"{cls.__name__}(widths=(3, 5), rate=2.0)"
    shared = (3, 4)
    assert Mine(widths=shared).widths is shared


@pytest.mark.parametrize("number", [2**31, 2**63, 10**20])
@pytest.mark.parametrize("cls", [cls for cls in catalogue().values() if "n" in cls.__dataclass_fields__])
def test_a_number_of_samples_that_no_tensor_holds_is_named(cls, number):
    with pytest.raises(ValueError, match=f"^{cls.__name__} needs .*n={number}"):
        cls(n=number)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
@pytest.mark.parametrize("make", [objectives.GaussianQuadratic, objectives.ExponentialMoment], ids=["dim", "other"])
def test_a_number_beyond_64_bits_is_named(make, number):
    name = dataclasses.fields(make)[0].name
    with pytest.raises(ValueError, match=f"{make.__name__} needs {name} within 64 bits"):
        make(**{name: number})
