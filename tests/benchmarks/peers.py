"""The jobs of the table by other packages, if installed: Pyro, the authors' ReinMax, and hand-written jitted JAX.

All return mean and variance over replicates. They use one thread, and blocks as large as those in ``closed``.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from estimators import RLOO, ReinMax, Reparameterization, ScoreFunction
from tests.benchmarks.closed import ELEMENTS, Moments, block_rows
from tests.benchmarks.interleaved import Job
from tests.benchmarks.workloads import AUTOENCODER, BITS, GAUSS, GAUSS_100, LOGISTIC, ONE_HOTS, Row


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def peers(row: Row, share: float = 0.25) -> dict[str, Job]:
    """Return the jobs of all installed peers that have this row; each makes a share of its replicates."""
    found = {}
    if installed("pyro") and (job := _pyro(row, share)):
        found["Pyro"] = job
    if installed("reinmax") and isinstance(row.estimator, ReinMax):
        found["reinmax"] = _reinmax(row, share)
    if installed("jax") and (job := _jax(row)):
        found["JAX"] = job
    return found


def _blocks(gradients: Callable[[], list[Tensor]], rows: int, replicates: float) -> Job:
    count = max(1, math.ceil(replicates / rows))

    def run() -> object:
        sums: list[Moments] = []
        for _ in range(count):
            parts = gradients()
            sums = sums or [Moments() for _ in parts]
            for moments, part in zip(sums, parts, strict=True):
                moments.add(part.reshape(rows, -1))
        return [moments.result() for moments in sums]

    return Job(run, count * rows)


# Pyro -----------------------------------------------------------------------------------------------------------------


def _pyro(row: Row, share: float) -> Job | None:
    """Return Pyro's Trace_ELBO with replicates as a plate, one row of parameters each; None if Pyro has no such job.

    Pyro has no leave-one-out baseline. Its loss always contains log q. On W1 to W3 f does not contain it: Pyro
    evaluates one more density, which the score needs anyway.
    """
    if isinstance(row.estimator, RLOO) or row.objective not in (GAUSS, GAUSS_100, BITS, LOGISTIC):
        return None
    if not isinstance(row.estimator, Reparameterization | ScoreFunction):
        return None
    import pyro
    import pyro.distributions as dist
    from pyro.distributions.testing.fakes import NonreparameterizedNormal

    pyro.enable_validation(False)
    problem, n = row.objective.build(), getattr(row.estimator, "n", 1)
    rows = max(8, ELEMENTS // (n * row.objective.row_elements))
    theta = {name: t.detach().expand(rows, *t.shape).clone().requires_grad_() for name, t in problem.theta.items()}
    q = problem.q(problem.theta)
    f = problem.integrand(q)
    normal = dist.Normal if isinstance(row.estimator, Reparameterization) else NonreparameterizedNormal

    def guide() -> None:
        with pyro.plate("rows", rows):
            if row.objective is BITS:
                pyro.sample("x", dist.Bernoulli(logits=theta["logits"]).to_event(1))
            else:
                pyro.sample("x", normal(theta["mean"], theta["log_scale"].exp()).to_event(1))

    def model() -> None:
        with pyro.plate("rows", rows):
            if row.objective is BITS:
                x = pyro.sample(
                    "x", dist.Bernoulli(logits=torch.zeros(rows, row.objective.dim)).to_event(1).mask(False)
                )
            else:
                x = pyro.sample("x", dist.Normal(0.0, 1.0).expand([rows, row.objective.dim]).to_event(1).mask(False))
            pyro.factor("f", f.log_joint(x) if row.objective.bound else f(x))  # type: ignore[attr-defined]

    many = {"num_particles": n, "vectorize_particles": True} if n > 1 else {}
    elbo = pyro.infer.Trace_ELBO(max_plate_nesting=1, **many)

    def gradients() -> list[Tensor]:
        pyro.clear_param_store()
        loss = -elbo.differentiable_loss(model, guide)
        return list(torch.autograd.grad(loss, list(theta.values())))

    return _blocks(gradients, rows, share * row.replicates)


# The authors' ReinMax -------------------------------------------------------------------------------------------------


def _reinmax(row: Row, share: float) -> Job:
    from reinmax import reinmax

    problem = row.objective.build()
    rows = block_rows(row.objective.row_elements)
    logits = problem.theta["logits"].detach()
    many = logits.expand(rows, *logits.shape).reshape(-1, logits.shape[-1]).requires_grad_()
    f = problem.integrand(problem.q(problem.theta))

    def gradients() -> list[Tensor]:
        sample, _ = reinmax(many, 1.0)
        return list(torch.autograd.grad(f(sample.view(rows, *logits.shape)).sum(), [many]))

    return _blocks(gradients, rows, share * row.replicates)


# JAX ------------------------------------------------------------------------------------------------------------------


def _jax(row: Row) -> Job | None:
    """Return closed-form gradients and their sums in one jitted loop over blocks, with JAX's own generator."""
    if row.objective == AUTOENCODER:
        return None
    _one_thread_for_jax()
    import jax
    from jax import lax
    from jax import numpy as jnp

    block, rows = _jax_block(row)
    count = max(1, math.ceil(row.replicates / rows))

    def sums(key: Any) -> Any:
        g = block(key)
        pivot = jnp.mean(g[:64], axis=0)
        return pivot, jnp.sum(g - pivot, 0), jnp.sum((g - pivot) ** 2, 0)

    measure = jax.jit(lambda key: lax.map(sums, jax.random.split(key, count)))
    key = jax.random.PRNGKey(0)
    return Job(lambda: jax.block_until_ready(measure(key)), count * rows)


def _one_thread_for_jax() -> None:
    """Create JAX's client while this process is limited to one processor, so that it starts a single thread."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        import jax

        jax.devices()
    finally:
        os.sched_setaffinity(0, allowed)


def _jax_block(row: Row) -> tuple[Callable[[Any], Any], int]:
    """Return the gradients of a block as a function of a key, ``[rows, size]``, and its rows."""
    import jax
    from jax import numpy as jnp

    o: Any = row.objective
    n, name = getattr(row.estimator, "n", 1), row.name.split("(")[0]
    rows = max(8, ELEMENTS // (n * o.row_elements))

    def leave_one_out(f: Any) -> Any:
        return (f - f.mean(0)) / (n - 1)

    def gaussian(key: Any) -> Any:
        z = jax.random.normal(key, (n, rows, o.dim))
        d = o.mean - o.target + o.scale * z
        if name == "pathwise":
            h = 2 * d[0]
            return jnp.concatenate([h, h * o.scale * z[0]], 1)
        f = (d * d).sum(-1)
        w = (f if name == "score" else leave_one_out(f))[..., None]
        return jnp.concatenate([(w * z).sum(0) / o.scale, (w * (z * z - 1)).sum(0)], 1)

    def bits(key: Any) -> Any:
        u = jax.random.uniform(key, (1 if name == "DisARM" else n, rows, o.dim), minval=1e-7, maxval=1 - 1e-7)
        p = 1 / (1 + math.exp(-o.logit))

        def f(x: Any) -> Any:
            return ((x - o.target) ** 2).sum(-1)

        if name in ("score", "RLOO"):
            b = (u < p).astype(jnp.float32)
            w = f(b) if name == "score" else leave_one_out(f(b))
            return (w[..., None] * (b - p)).sum(0)
        if name == "DisARM":
            b, other = (u[0] < p).astype(jnp.float32), (u[0] > 1 - p).astype(jnp.float32)
            return (f(b) - f(other))[:, None] / 2 * (b - other) * max(p, 1 - p)
        z = o.logit + jnp.log(u[0] / (1 - u[0]))
        if name == "REBAR":
            temperature, eta = row.estimator.temperature, row.estimator.coefficient  # type: ignore[attr-defined]
            b, y = (z > 0).astype(jnp.float32), jax.nn.sigmoid(z / temperature)
            slope = 2 * (y - o.target) * y * (1 - y) / temperature
            outcome = 1 - p + b * (2 * p - 1)
            return (f(b) - eta * f(y))[:, None] * (b - p) + eta * slope * (1 + outcome * jnp.expm1(-jnp.abs(z)))
        y = jax.nn.sigmoid(z / row.estimator.temperature)  # type: ignore[attr-defined]
        x = y if name == "Gumbel-softmax" else (z > 0).astype(jnp.float32)
        return 2 * (x - o.target) * y * (1 - y) / row.estimator.temperature  # type: ignore[attr-defined]

    def one_hots(key: Any) -> Any:
        closed: Any = row.closed()
        p, a, b = (jnp.asarray(t.numpy()) for t in (closed.p, closed.a, closed.b))
        a, b = a.reshape(p.shape), b.reshape(p.shape)

        def softmax_pulled(p: Any, h: Any) -> Any:
            return p * (h - (p * h).sum(-1, keepdims=True))

        if name == "Gumbel-softmax":
            u = jax.random.uniform(key, (rows, *p.shape), minval=1e-7, maxval=1 - 1e-7)
            y = p / -jnp.log(u)
            y = y / y.sum(-1, keepdims=True)
            return softmax_pulled(y, a + 2 * (b * y).sum((-1, -2), keepdims=True) * b).reshape(rows, -1)
        u = jax.random.uniform(key, (n, rows, o.dim, 1))
        cdf = jnp.cumsum(p, -1)
        lower = jnp.concatenate([jnp.zeros((o.dim, 1)), cdf[:, :-1]], 1)
        x = ((u >= lower) & (u < cdf)).astype(jnp.float32)
        if name == "RLOO":
            f = (a * x).sum((-1, -2)) + (b * x).sum((-1, -2)) ** 2
            return (leave_one_out(f)[..., None, None] * x).sum(0).reshape(rows, -1)
        h = a + 2 * (b * x[0]).sum((-1, -2), keepdims=True) * b
        if name == "ST":
            return softmax_pulled(p, h).reshape(rows, -1)
        return (2 * softmax_pulled((p + x[0]) / 2, h) - softmax_pulled(p, h) / 2).reshape(rows, -1)

    def logistic(key: Any) -> Any:
        from bench.objectives.logistic_regression import signed_data

        data = jnp.asarray(signed_data().float().numpy())
        scale = math.exp(o.log_scale)
        z = jax.random.normal(key, (n, rows, o.dim))
        w = o.mean + scale * z
        a = w @ data.T
        if name == "pathwise":
            h = jax.nn.sigmoid(-a) @ data - w
            return jnp.concatenate([h.mean(0), (h * scale * z).mean(0) + 1], 1)
        f = jax.nn.log_sigmoid(a).sum(-1) + (z * z - w * w).sum(-1) / 2
        v = (leave_one_out(f) - 1 / n)[..., None]
        return jnp.concatenate([(v * z).sum(0) / scale, (v * (z * z - 1)).sum(0)], 1)

    blocks = {GAUSS: gaussian, GAUSS_100: gaussian, BITS: bits, ONE_HOTS: one_hots, LOGISTIC: logistic}
    return blocks[o], rows
