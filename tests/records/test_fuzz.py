"""Records, plans and baselines that were edited at random are read, or refused in one sentence."""

from itertools import product

from tests.records import fuzz


def test_edited_files_are_read_or_refused_in_one_sentence():
    found = fuzz.fuzz(130, seed=8)
    outcomes = {(kind, outcome) for kind, _, outcome in found}
    assert outcomes == set(product(fuzz.subjects(), ("read", "refused"))), "both happen, or the test says nothing"


def test_every_line_of_records_is_of_another_kind_outcome_or_status():
    assert len(fuzz.record_lines()) > 10
