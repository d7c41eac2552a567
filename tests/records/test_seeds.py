"""Seeds: different for different draws, and the same for ever."""

import torch

from bench.records.seeds import draw_seed


def test_seeds_differ_by_root_stage_subject_and_draw_and_never_move():
    base = (0, "measure", {"class": "X"}, 0)
    seeds = {
        draw_seed(*base),
        draw_seed(1, *base[1:]),
        draw_seed(0, "pilot", *base[2:]),
        draw_seed(0, "measure", {"class": "Y"}, 0),
        draw_seed(*base[:3], 1),
    }
    assert len(seeds) == 5
    assert all(0 <= s < 2**63 for s in seeds)
    assert draw_seed(*base) == 5823703426901428984, "committed numbers were made with these seeds"


def test_a_subject_counts_by_its_present_content():
    subject = {"class": "X", "dim": 1}
    first = draw_seed(0, "measure", subject, 0)
    assert draw_seed(0, "measure", {"dim": 1, "class": "X"}, 0) == first
    subject["dim"] = True
    second = draw_seed(0, "measure", subject, 0)
    subject["dim"] = "1"
    assert len({first, second, draw_seed(0, "measure", subject, 0)}) == 3


def test_no_two_draws_share_the_bits_that_torch_uses():
    """torch's CPU generator looks at 32 bits only, and hashes alone would meet: one noise for two draws."""
    seeds = {draw_seed(0, "measure", {"class": "X"}, draw) % 2**32 for draw in range(100_000)}
    assert len(seeds) == 100_000
    high = torch.rand(3, generator=torch.Generator().manual_seed(5 + (1 << 40)))
    assert torch.equal(high, torch.rand(3, generator=torch.Generator().manual_seed(5)))
