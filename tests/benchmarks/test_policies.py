"""The loops beside the engine: what they write has the log-probability that they say, and all of them run."""

import pytest
import torch

from tests.benchmarks import policies


@pytest.mark.parametrize("case", policies.CASES, ids=lambda case: case.name)
def test_a_loop_writes_answers_with_their_log_probabilities(case):
    loop = policies.Loop(case.objective)
    for way in case.loops.values():
        x, log_prob = getattr(loop, way)()
        assert x.shape == (policies.GROUP, case.objective.length)
        assert loop.q.support.check(x).all()
        torch.testing.assert_close(log_prob, loop.q.log_prob(x.unsqueeze(1))[:, 0])
        gradients = loop.run(getattr(loop, way), 1)
        assert [g.shape for g in gradients] == [t.shape for t in loop.theta.values()]


def test_every_job_is_timed(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(policies, "CASES", policies.CASES[:1])
    policies.main(quick=True, out=tmp_path)
    rows = [line.split(" | ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("| table")]
    assert rows == ["token by token", "draws a number", policies.GRADIENTS, policies.WHOLE]
    assert not list(tmp_path.iterdir())


def test_the_last_case_has_no_table():
    engine = policies.engine(policies.CASES[-1], 64)
    assert engine.look_up is None
