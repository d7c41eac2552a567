from bench.report.figures.log_axes import decades


def test_ticks_are_round_and_few():
    for low, high in [(-3.2, -1.9), (0.0, 1.3), (-7.0, 9.0), (2.1, 5.9)]:
        values = decades(low, high)
        assert 1 <= len(values) <= 7
        assert all(10**low <= v * 1.0000001 and v <= 10**high * 1.0000001 for v in values)
        assert all(f"{v:.0e}"[0] in "125" for v in values)
