"""Records that were edited at random are read, or refused in one sentence."""

from tests.records import fuzz


def test_edited_records_are_read_or_refused_in_one_sentence():
    found = fuzz.fuzz(20, seed=1)
    assert found.total() > 20
    assert {outcome for _, outcome in found} == {"read", "refused"}, "both happen, or the test says nothing"


def test_every_base_line_is_of_another_kind_outcome_or_status():
    assert len(fuzz.base()) > 10
