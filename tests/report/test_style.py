import itertools

import numpy as np
import pytest

from bench.planning.catalogue import catalogue
from bench.report.style import FAMILIES, order, styles


def looks(names):
    return [(style.colour, style.marker) for style in styles(names).values()]


def test_no_two_estimators_of_the_catalogue_look_alike():
    names = sorted(catalogue("estimator"))
    assert {name for family in FAMILIES.values() for name in family if name} <= set(names)
    alone = [looks([name])[0] for name in names]  # one at a time: a style must not depend on its company
    assert len(set(alone)) == len(names)
    assert alone == looks(names)


def test_a_gap_in_a_family_keeps_the_markers_behind_it():
    names = ("antithetic-score-function", "self-critical", "hessian-control-variate", "go", "simple", "spsa")
    assert [styles([name])[name].marker for name in names] == ["D", "v", "<", "X", "D", "s"]


def test_the_first_of_each_family_differ_without_colour():
    first = [names[0] for names in FAMILIES.values()]
    assert len({styles([name])[name].marker for name in first}) == len(first)


def test_a_users_estimator_keeps_its_look_and_never_borrows_one_of_ours():
    known = set(looks(sorted(catalogue("estimator"))))
    guests = [f"my-estimator-{i}" for i in range(30)]
    together = looks(guests)
    assert len(set(together)) == 30
    assert not known & set(together)
    assert not {colour for colour, _ in known} & {colour for colour, _ in together}
    assert not {marker for _, marker in known} & {marker for _, marker in together}
    assert styles(["mine"])["mine"] == styles(["mine", "rloo", "score-function"])["mine"]


def test_more_guests_than_styles_still_get_one():
    assert len(styles([f"guest-{i}" for i in range(100)])) == 100


def test_the_order_follows_the_table_with_guests_last():
    assert order(["zeta", "rloo", "alpha", "score-function", "rloo"]) == ["score-function", "rloo", "alpha", "zeta"]


# Linear-RGB matrices of Machado, Oliveira & Fernandes (2009), severity 1.
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, matrix):
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrix) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ seen / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", [*BLIND, "full"])
def test_colours_differ_for_every_kind_of_colour_vision(kind):
    matrix = BLIND.get(kind, np.eye(3))
    nearest = min(np.linalg.norm(lab(a, matrix) - lab(b, matrix)) for a, b in itertools.combinations(FAMILIES, 2))
    assert nearest > 2.3 * 2  # 2.3 is a just noticeable difference of CIE 1976; markers differ on top of it
