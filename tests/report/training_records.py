"""Fabricated records of training."""

STEPS = [0, 10, 20, 30]


def run(estimator, values, seed=0, *, objective="o", f_evals=1.0, adapt=0.0, outcome="measured", **more):
    count = len(values)
    curves = {
        "step": STEPS[:count],
        "value": values,
        "value_error": [0.0] * count,
        "training_value": [None, *values[1:]],
        "training_seconds": [0.1 * step for step in STEPS[:count]],
    }
    if "variance" in more:
        variance = more.pop("variance")
        statuses = more.pop("statuses", ["OK"] * count)
        curves |= {"variance": variance, "variance_low": [0.5 * v for v in variance], "variance_status": statuses}
    return {
        "schema": 1,
        "kind": "training",
        "run": f"{objective}-{estimator}-{seed}-{more.get('learning_rate', 0.1)}",
        "cell": f"{objective}-{estimator}",
        "estimator": estimator,
        "estimator_name": estimator.partition(":")[0],
        "objective": objective,
        "objective_name": objective,
        "code": "code",
        "family": "Normal",
        "dim": 2,
        "unbiased": True,
        "deterministic": False,
        "common_noise": True,
        "environment": {},
        "seed": seed,
        "outcome": outcome,
        "reason": None if outcome == "measured" else "It broke.",
        "dtype": "float32",
        "device": "cpu",
        "steps": 30,
        "optimizer": "adam",
        "learning_rate": 0.1,
        "replicates": 64,
        "looks": STEPS,
        "maximise": True,
        "held_out": False,
        "exact_value": True,
        "batch": 1,
        "f_evals": f_evals,
        "grad_evals": 0.0,
        "adapt_f_evals": adapt,
        "curves": curves,
        "pictures": None,
        **more,
    }


def study():
    good = [run("rloo", [0.0, 1.0, 2.0, 3.0 + seed / 10], seed, f_evals=2.0, variance=[1.0] * 4) for seed in range(6)]
    heavy = ["HEAVY_TAIL"] * 4
    poor = [
        run("score-function", [0.0, 0.5, 0.7, 1.0 + seed / 10], seed, variance=[8.0] * 4, statuses=heavy)
        for seed in range(5)
    ]
    lost = run("score-function", [0.0, -3.0], 5, outcome="diverged", variance=[9.0, 9.0])
    return [*poor, lost, *good]
