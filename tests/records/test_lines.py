"""Lines: what JSON cannot hold, and the words of the format."""

import json

import numpy as np

from bench.records.lines import Damaged, LineKind, Outcome, dumps, plain


def test_numbers_that_json_lacks_become_null():
    record = {"a": float("nan"), "b": np.float64("inf"), "c": np.array([1.0, np.nan]), "d": np.int64(3)}
    assert json.loads(dumps(record)) == {"a": None, "b": None, "c": [1.0, None], "d": 3}


def test_kinds_and_outcomes_are_written_as_text_and_compare_as_text():
    assert dumps({"kind": LineKind.MOMENTS, "outcome": Outcome.FAILED}) == '{"kind":"moments","outcome":"failed"}'
    assert type(plain(LineKind.MOMENTS)) is str
    assert Outcome.MEASURED == "measured"


def test_a_message_of_damage_is_printable():
    assert (
        str(Damaged("b.json is damaged at cells.0.\ngrad\x1b[2J: bad."))
        == "b.json is damaged at cells.0. grad [2J: bad."
    )
