"""The most bytes that one call holds at once."""

from __future__ import annotations

import torch

from bench.measurement.peak_memory import peak_bytes


def test_peak_bytes_is_the_most_that_lived_at_once() -> None:
    def job() -> None:
        first = torch.zeros(1000)
        second = torch.zeros(500, dtype=torch.float64)
        del first
        torch.zeros(100)
        del second

    assert peak_bytes(job) == 4000 + 4000
    assert peak_bytes(lambda: None) == 0


def test_peak_bytes_counts_neither_views_nor_what_was_there_before() -> None:
    held, workspace = torch.ones(1000), torch.empty(1000)

    def job() -> None:
        held.expand(50, 1000)[3].view(10, 100)
        torch.exp(held, out=workspace)
        workspace.add_(1)

    assert peak_bytes(job) == 0
    assert peak_bytes(lambda: held.clone()[2:]) == 4000


def test_peak_bytes_sees_what_the_graph_keeps_for_the_backward() -> None:
    x = torch.ones(1000, requires_grad=True)

    def forward() -> None:
        x.exp().exp().exp()

    with torch.no_grad():
        assert peak_bytes(forward) == 2 * 4000
    assert peak_bytes(forward) == 3 * 4000
    # At the second exp: three results, the cotangent given, the gradient that arrives and the one that leaves.
    assert peak_bytes(lambda: torch.autograd.grad(x.exp().exp().exp(), x, torch.ones(1000))) == 6 * 4000


def test_peak_bytes_does_not_depend_on_the_call_before() -> None:
    x = torch.ones(300, requires_grad=True)

    def job() -> torch.Tensor:
        return torch.autograd.grad((x * torch.rand(7, 300)).square().sum(), x)[0]

    assert peak_bytes(job) == peak_bytes(job) > 2 * 7 * 300 * 4
