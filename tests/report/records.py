"""Records of a study that never ran: plausible numbers, every status and verdict, deterministic."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

Record = dict[str, Any]

R = 10_240
BLOCKS = 40
ENVIRONMENT = {"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6", "platform": "Linux x86_64", "commit": None}


def short(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def line(
    estimator: str,
    objective: str,
    *,
    family: str = "Normal",
    dim: int = 10,
    kind: str = "moments",
    outcome: str = "measured",
    reason: str | None = None,
    unbiased: bool = True,
    deterministic: bool = False,
    dtype: str = "float32",
    seed: int = 0,
    replicates: int = R,
) -> Record:
    """The keys that every record has."""
    return {
        "schema": 1,
        "kind": kind,
        "run": short(estimator, objective, dtype, seed, replicates),
        "cell": short(estimator, objective),
        "code": short("code"),
        "estimator": estimator,
        "estimator_name": estimator.partition(":")[0],
        "estimator_params": parameters(estimator),
        "objective": objective,
        "objective_name": objective.partition(":")[0],
        "objective_params": parameters(objective) | {"dim": dim},
        "family": family,
        "dim": dim,
        "unbiased": unbiased,
        "deterministic": deterministic,
        "dtype": dtype,
        "device": "cpu",
        "seed": seed,
        "common_noise": True,
        "replicates": replicates,
        "outcome": outcome,
        "reason": reason,
        "environment": ENVIRONMENT,
    }


def parameters(label: str) -> dict[str, Any]:
    pairs = [part.split("=", 1) for part in label.partition(":")[2].split(",") if "=" in part]
    return {key: int(value) if value.isdigit() else value for key, value in pairs}


def moments(
    estimator: str,
    objective: str,
    variance: float,
    *,
    bias: float = 0.0,
    norm: float | None = 1.0,
    status: str = "OK",
    verdict: str | None = None,
    half: float = 0.03,
    high: float | None = math.nan,
    n: int | None = 1,
    f_evals: float = 1.0,
    grad_evals: float = 0.0,
    **facts: Any,
) -> Record:
    """A measured run: total variance, relative bias, norm of the exact gradient; ``half`` is the half-width of the
    interval on the log scale, ``high`` its upper end where that is not symmetric (None: open)."""
    record = line(estimator, objective, **facts)
    dim = record["dim"]
    noise = 2.8 * (2 * variance**2 / dim) ** 0.25 / math.sqrt(record["replicates"])
    bound = None if norm is None else bias * norm + noise
    if verdict is None:
        assert norm is not None
        assert bound is not None
        significant = bias * norm > noise
        within = bound <= 0.01 * norm
        verdict = {
            (True, True): "BIASED_WITHIN_TOL",
            (True, False): "BIASED",
            (False, True): "UNBIASED_WITHIN_TOL",
            (False, False): "INCONCLUSIVE",
        }[significant, within]
    squared = None if norm is None else (bias * norm) ** 2 + 0.1 * noise**2 * (1 if len(estimator) % 2 else -1)
    low = variance * math.exp(-half)
    mse = None if norm is None else variance + (bias * norm) ** 2
    known = norm is not None and variance > 0
    summary = {
        "replicates": record["replicates"],
        "size": 2 * dim,
        "blocks": BLOCKS,
        "confidence": 0.95,
        "tolerance": 0.01,
        "dtype": record["dtype"],
        "variance": variance,
        "variance_low": low,
        "variance_high": variance * math.exp(half) if high is not None and math.isnan(high) else high,
        "se_log": half / 1.96,
        "cv2": 2.0,
        "skewness": 1.0,
        "kurtosis": 9.0,
        "nu": 2000.0,
        "rho": 1 / dim,
        "trace_square": variance**2 / dim,
        "khat": 0.1,
        "status": status,
        "mean_norm": norm or 1.0,
        "flags": [],
        "exact_norm": norm,
        "bias_norm": None if norm is None else math.hypot(bias * norm, noise / 3),
        "bias_squared": squared,
        "bias_bound": bound,
        "bias_low": None if norm is None else max(0.0, bias * norm - noise),
        "relative_bias_bound": bound / norm if bound is not None and norm else None,
        "bias_per_sd_bound": bound / math.sqrt(variance) if bound is not None and variance > 0 else None,
        "p_bias": 1e-9 if bias else 0.4,
        "verdict": verdict,
        "mse": mse,
        "mse_low": None if mse is None else mse * math.exp(-half),
        "mse_high": None if mse is None else mse * math.exp(half),
        "snr": norm / math.sqrt(variance) if known and norm else None,
        "cosine": 1 / math.sqrt(1 + variance / norm**2) if known and norm else None,
        "scale": 1 - bias,
    }
    rng = np.random.default_rng(int(short(objective), 16))
    shared, own = rng.standard_normal(BLOCKS), np.random.default_rng(int(record["run"], 16)).standard_normal(BLOCKS)
    block_rows = np.full(BLOCKS, record["replicates"] / BLOCKS)
    jitter = half / 1.96 * math.sqrt(BLOCKS) * (0.9 * shared + 0.44 * own)
    block_w = block_rows * variance * np.clip(1 + jitter - jitter.mean(), 0.1, None)
    return record | {
        "n": n,
        "size": 2 * dim,
        "blocks": BLOCKS,
        "f_evals": f_evals,
        "grad_evals": grad_evals,
        "adapt_steps": 0,
        "adapt_seconds": 0.0,
        "adapt_f_evals": 0.0,
        "wall_seconds": 0.5,
        "exact": None if norm is None else [norm] + [0.0] * (2 * dim - 1),
        "mean": [0.0] * (2 * dim),
        "summary": summary,
        "sums": {"block_rows": block_rows.tolist(), "block_w": block_w.tolist()},
    }


def timing(record: Record, seconds: float, *, noisy: bool = False) -> Record:
    """The timing line of a run."""
    keys = ("n", "size", "blocks", "f_evals", "grad_evals", "exact", "mean", "summary", "sums", "wall_seconds")
    common = {k: v for k, v in record.items() if k not in keys}
    return common | {
        "kind": "timing",
        "seconds": seconds,
        "seconds_low": 0.97 * seconds,
        "seconds_high": 1.05 * seconds,
        "latency_seconds": 3e-4,
        "latency_seconds_low": 2.8e-4,
        "latency_seconds_high": 3.3e-4,
        "cost": 1.8,
        "cost_low": 1.7,
        "cost_high": 1.9,
        "noisy": noisy,
        "peak_bytes": 1_000_000,
    }


def deterministic(estimator: str, objective: str, *, bias: float = 0.0, norm: float = 1.0, **facts: Any) -> Record:
    """A run without noise, exact or biased. Its variance is rounding."""
    verdict = "DETERMINISTIC_BIASED" if bias > 0.01 else "EXACT_WITHIN_TOL" if bias else "EXACT"
    facts = {"deterministic": True, "unbiased": not bias, "replicates": 64, "status": "SMALL_R"} | facts
    record = moments(estimator, objective, 1e-17, bias=bias, norm=norm, verdict=verdict, **facts)
    record["summary"] |= {"bias_low": None, "bias_bound": bias * norm + 1e-7, "relative_bias_bound": bias + 1e-7 / norm}
    return record


def heavy(estimator: str, objective: str, variance: float, *, infinite: bool = False, **facts: Any) -> Record:
    """A run whose variance has a lower limit alone."""
    status = "INFINITE_VARIANCE_SUSPECTED" if infinite else "HEAVY_TAIL"
    verdict = "UNRELIABLE" if infinite else "INCONCLUSIVE"
    high = None if infinite else 40 * variance
    return moments(estimator, objective, variance, status=status, verdict=verdict, half=0.7, high=high, **facts)


def study() -> list[Record]:
    """Seven estimators on eight objectives: grids over n and dim, skips, failures, heavy tails, exact methods."""
    records: list[Record] = []

    def add(record: Record, seconds: float | None = None) -> None:
        records.append(record)
        if seconds is not None:
            records.append(timing(record, seconds))

    for dim in (1, 10, 100):
        objective = f"gaussian-quadratic:dim={dim}" if dim != 10 else "gaussian-quadratic"
        facts: dict[str, Any] = {"dim": dim, "norm": 2.1 * math.sqrt(dim)}
        add(moments("score-function", objective, 11.0 * dim**3 + 12 * dim, **facts), 1.1e-7 * dim**0.6)
        for n in (2, 4, 8, 16):
            v = (9.0 * dim**2 + 11 * dim) / n * (1 + 1.0 / n)
            add(moments(f"rloo:n={n}", objective, v, n=n, f_evals=n, **facts), 0.9e-7 * n * dim**0.7)
        for n in (1, 4, 16):
            label = "reparameterization" if n == 1 else f"reparameterization:n={n}"
            v = 6.2 * dim / n
            add(moments(label, objective, v, n=n, f_evals=n, grad_evals=n, **facts), 1.2e-7 * n**0.9 * dim**0.7)
        add(moments("measure-valued", objective, 4.3 * dim, f_evals=4 * dim, **facts), 4e-7 * dim)
        for relaxed in ("gumbel-softmax", "straight-through"):
            reason = (
                f"{relaxed.title()} serves Bernoulli or OneHotCategorical, and q is Normal. Use reparameterization."
            )
            add(line(relaxed, objective, dim=dim, outcome="skipped", reason=reason))
        reason = "Enumeration needs a finite support, and q is Normal. Use score-function."
        add(line("enumeration", objective, dim=dim, outcome="skipped", reason=reason))

    objective = "gaussian-exponential"
    add(heavy("score-function", objective, 310.0, norm=1.6, dim=1), 1e-7)
    add(heavy("rloo:n=4", objective, 80.0, norm=1.6, dim=1, n=4, f_evals=4, infinite=True), 3e-7)
    add(
        moments("reparameterization", objective, 7.7, norm=1.6, dim=1, grad_evals=1, status="TAIL_WARNING", high=16.0),
        1.2e-7,
    )
    add(moments("measure-valued", objective, 8.0, norm=1.6, dim=1, f_evals=4, half=0.2), 4e-7)

    for dim in (2, 20, 200):
        objective = f"bernoulli-quadratic:dim={dim}" if dim != 20 else "bernoulli-quadratic"
        facts = {"dim": dim, "family": "Bernoulli", "norm": 0.02 * math.sqrt(dim)}
        scale = 4e-4 * dim
        add(moments("score-function", objective, 16 * scale * dim, **facts), 1.5e-7 * dim**0.5)
        for n in (2, 4, 8):
            add(moments(f"rloo:n={n}", objective, 3 * scale * dim / n, n=n, f_evals=n, **facts), 1.4e-7 * n * dim**0.5)
        biased: dict[str, Any] = {"grad_evals": 1, "unbiased": False, **facts}
        add(moments("gumbel-softmax", objective, 0.04 * scale, bias=0.4, **biased), 3e-7 * dim**0.5)
        add(moments("straight-through", objective, 0.9 * scale, bias=1.8, **biased), 2.2e-7 * dim**0.5)
        add(moments("measure-valued", objective, 0.4 * scale, f_evals=2 * dim, **facts), 2e-7 * dim)
        if dim <= 20:
            add(deterministic("enumeration", objective, f_evals=2.0**dim, **facts), 1e-8 * 2.0**dim)
        else:
            reason = "Enumeration sums over 2^200 states, more than the 2^20 it takes. Use rloo."
            add(line("enumeration", objective, dim=dim, family="Bernoulli", outcome="skipped", reason=reason))
        reason = "Reparameterization serves distributions with a pathwise gradient, and q is Bernoulli. Use rloo."
        add(line("reparameterization", objective, dim=dim, family="Bernoulli", outcome="skipped", reason=reason))

    objective = "categorical-polynomial"
    facts = {"dim": 4, "family": "OneHotCategorical", "norm": 0.3}
    add(moments("score-function", objective, 1.9, **facts), 4e-7)
    add(moments("rloo:n=4", objective, 0.21, n=4, f_evals=4, **facts), 9e-7)
    add(moments("gumbel-softmax", objective, 0.02, bias=0.15, grad_evals=1, unbiased=False, **facts), 7e-7)
    add(deterministic("straight-through", objective, bias=0.3, f_evals=1, **facts), 5e-7)
    reason = "RuntimeError: 3 of 10240 gradients were not finite. Nothing was dropped: the cell has no moments."
    add(line("measure-valued", objective, dim=4, family="OneHotCategorical", outcome="failed", reason=reason))
    add(deterministic("enumeration", objective, f_evals=256, **facts), 2e-5)
    return records


def many(estimators: int, objectives: int) -> list[Record]:
    """A wide study, in which tables and figures must stay legible."""
    names = (
        "score-function", "rloo:n=4", "reparameterization", "measure-valued", "gumbel-softmax", "straight-through",
        "reinmax", "rebar", "relax", "muprop", "disarm", "arms:n=4", "nvil", "vimco", "double-cv:n=4", "darn", "spsa",
        "stochastic-ad", "sticking-the-landing", "gumbel-rao:n=16", "bitflip", "evolution-strategies:n=2,sigma=0.01",
    )  # fmt: skip
    labels = [names[i % len(names)] + ("" if i < len(names) else f",seed={i}") for i in range(estimators)]
    rng = np.random.default_rng(0)
    records = []
    for j in range(objectives):
        for i, label in enumerate(labels):
            objective = f"objective-number-{j}:dim={3 * j + 2},target=0.499"
            facts: dict[str, Any] = {"dim": 3 * j + 2, "norm": 1.0}
            if (i + j) % 5 == 0:
                records.append(line(label, objective, dim=3 * j + 2, outcome="skipped", reason="It does not fit."))
                continue
            bias = 0.2 if label.startswith(("gumbel", "straight", "rein", "darn")) else 0.0
            variance = float(math.exp(rng.normal(0, 2.5)))
            record = moments(label, objective, variance, bias=bias, unbiased=not bias, f_evals=1 + i % 7, **facts)
            records.append(record)
            records.append(timing(record, 1e-7 * (1 + i % 7) * float(math.exp(rng.normal()))))
    return records
