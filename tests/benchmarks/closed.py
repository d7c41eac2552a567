"""The yardstick: the best eager torch that we could write by hand for one estimator on one objective, and the floor.

The code uses no autograd and no distributions: gradients have closed forms, blocks have about 128 Ki elements, and
buffers are allocated once and filled by ``out=``. ``measure`` returns mean and variance of every coordinate; ``bare``
draws the same random numbers and evaluates f at the same points, and nothing else.

Samples have shape ``[n, rows, ...]``. z stands for standard normals, u for uniforms, h for df/dx.
"""

from __future__ import annotations

import abc
import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import leaky_relu, pad

from bench.objectives import (
    BernoulliQuadratic,
    BernoulliVAE,
    CategoricalLinearQuadratic,
    GaussianQuadratic,
    LogisticRegression,
)
from estimators.relax import LearnedRelaxation

ELEMENTS = 2**17
"""Elements of a block's largest tensor."""


class Moments:
    """Sums and sums of squares about a pivot: float32 inside a block, float64 across blocks."""

    def __init__(self) -> None:
        self.count = 0
        self.buffer = torch.empty(0)

    def add(self, g: Tensor) -> None:
        """Add a block ``[rows, size]``, which is overwritten. The pivot is the mean of the first block."""
        rows, size = g.shape
        if not self.count:
            self.pivot = g.mean(0)
            self.first, self.second = torch.zeros(2, size, dtype=torch.float64)
        # torch's inner loop is over columns: narrow blocks are summed 32 rows at a time, unless stored by column.
        fold = 32 if 1 < size < 32 and rows % 32 == 0 and g.is_contiguous() else 1
        g = g.view(rows // fold, fold * size) if fold > 1 else g
        g.sub_(self.pivot.repeat(fold))
        self.first += g.sum(0).view(fold, size).sum(0)
        self.second += torch.dot(g[:, 0], g[:, 0]) if size == 1 else self._squares(g).sum(0).view(fold, size).sum(0)
        self.count += rows

    def _squares(self, g: Tensor) -> Tensor:
        if self.buffer.shape != g.shape:
            self.buffer = torch.empty_like(g)
        return torch.mul(g, g, out=self.buffer)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance, float64, ``[size]`` each."""
        mean = self.first / self.count
        return self.pivot + mean, (self.second - self.count * mean.square()) / (self.count - 1)


class Closed(abc.ABC):
    """One estimator on one objective, written by hand; it computes ``rows`` replicates at a time."""

    rows: int

    @abc.abstractmethod
    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        """Return a block of gradients, ``[rows, size]`` for each tensor of theta. The next call overwrites them."""

    @abc.abstractmethod
    def bare(self, generator: Generator) -> None:
        """Draw a block's random numbers and evaluate f at its points."""

    def measure(self, replicates: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the gradient over ``replicates``, rounded up to whole blocks."""
        generator, sums = Generator().manual_seed(seed), None
        for _ in range(math.ceil(replicates / self.rows)):
            parts = self.gradients(generator)
            sums = sums or [Moments() for _ in parts]
            for moments, part in zip(sums, parts, strict=True):
                moments.add(part)
        assert sums is not None
        results = [moments.result() for moments in sums]
        return torch.cat([mean for mean, _ in results]), torch.cat([variance for _, variance in results])

    def floor(self, replicates: int, seed: int = 0) -> None:
        """Draw and evaluate ``replicates``, rounded up to whole blocks."""
        generator = Generator().manual_seed(seed)
        for _ in range(math.ceil(replicates / self.rows)):
            self.bare(generator)

    def replicates(self, wanted: int) -> int:
        """Return the number of replicates that ``measure(wanted)`` makes."""
        return math.ceil(wanted / self.rows) * self.rows


def block_rows(elements: int) -> int:
    """Return the rows of a block whose largest tensor has ``elements`` elements per row."""
    return max(64, ELEMENTS // elements)


def leave_one_out(f: Tensor) -> Tensor:
    """Return ``(f - mean f) / (n - 1)`` along the first axis, in place."""
    return f.sub_(f.mean(0)).mul_(1 / (len(f) - 1))


def weighted_sum(weight: Tensor, x: Tensor, out: Tensor) -> Tensor:
    """Return ``sum_k weight_k x_k``, ``[rows, size]`` from ``[n, rows]`` and ``[n, rows, size]``."""
    torch.mul(weight[0].unsqueeze(-1), x[0], out=out)
    for w, each in zip(weight[1:], x[1:], strict=True):
        out.addcmul_(w.unsqueeze(-1), each)
    return out


# W1 and W2: f = sum (x - target)^2 under N(mean, exp(log_scale)^2) ----------------------------------------------------


class Gaussian(Closed):
    """The draws and the f of all Gaussian rows."""

    def __init__(self, objective: GaussianQuadratic, n: int) -> None:
        self.rows = block_rows(n * objective.dim)
        shape = (n, self.rows, objective.dim)
        self.z, self.d, self.scratch, self.f = (*torch.empty(3, *shape), torch.empty(shape[:2]))
        self.loc, self.log_scale = torch.empty(2, self.rows, objective.dim)
        self.shift, self.scale = torch.tensor([objective.mean - objective.target]), objective.scale

    def draw(self, generator: Generator) -> None:
        torch.randn(self.z.shape, generator=generator, out=self.z)
        torch.add(self.shift, self.z, alpha=self.scale, out=self.d)  # x - target

    def evaluate(self) -> Tensor:
        squares = torch.mul(self.d, self.d, out=self.scratch)
        return squares.squeeze(-1) if squares.shape[-1] == 1 else torch.sum(squares, -1, out=self.f)

    def bare(self, generator: Generator) -> None:
        self.draw(generator)
        self.evaluate()


class GaussianScore(Gaussian):
    """f z / scale, and f (z^2 - 1) for the log-scale."""

    def __init__(self, objective: GaussianQuadratic) -> None:
        super().__init__(objective, n=1)

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        self.draw(generator)
        f, z = self.evaluate()[0].unsqueeze(-1), self.z[0]
        torch.mul(f, z, out=self.loc)
        torch.mul(self.loc, z, out=self.log_scale).sub_(f)
        return self.loc.mul_(1 / self.scale), self.log_scale


class GaussianPathwise(Gaussian):
    """h, and h scale z for the log-scale, with h = 2 (x - target)."""

    def __init__(self, objective: GaussianQuadratic) -> None:
        super().__init__(objective, n=1)

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        self.draw(generator)
        h = torch.mul(self.d[0], 2, out=self.loc)
        return h, torch.mul(h, self.z[0].mul_(self.scale), out=self.log_scale)


class GaussianRLOO(Gaussian):
    """sum w z / scale, and sum w z^2; the weights w add up to 0."""

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        self.draw(generator)
        w = leave_one_out(self.evaluate())
        weighted_sum(w, self.z, self.loc).mul_(1 / self.scale)
        return self.loc, weighted_sum(w, self.z.mul_(self.z), self.log_scale)


# W3: f = sum (b - target)^2 over bits --------------------------------------------------------------------------------


class Bits(Closed):
    """The draws and the f of all Bernoulli rows."""

    def __init__(self, objective: BernoulliQuadratic, n: int) -> None:
        self.rows = block_rows(n * objective.dim)
        shape = (n, self.rows, objective.dim)
        self.u, self.b, self.scratch, self.f = (*torch.empty(3, *shape), torch.empty(shape[:2]))
        self.g = torch.empty(shape[1:])
        self.target, self.logit = objective.target, objective.logit
        self.p = 1 / (1 + math.exp(-objective.logit))

    def draw(self, generator: Generator) -> Tensor:
        torch.rand(self.u.shape, generator=generator, out=self.u)
        return torch.lt(self.u, self.p, out=self.b)

    def evaluate(self, x: Tensor) -> Tensor:
        d = torch.sub(x, self.target, out=self.scratch[: len(x)])
        return torch.sum(d.mul_(d), -1, out=self.f[: len(x)])

    def bare(self, generator: Generator) -> None:
        self.evaluate(self.draw(generator))


class BernoulliScore(Bits):
    """f (b - p)."""

    def __init__(self, objective: BernoulliQuadratic) -> None:
        super().__init__(objective, n=1)

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        b = self.draw(generator)
        f = self.evaluate(b)[0].unsqueeze(-1)
        return (b[0].sub_(self.p).mul_(f),)


class BernoulliRLOO(Bits):
    """sum w b; the weights w add up to 0."""

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        b = self.draw(generator)
        return (weighted_sum(leave_one_out(self.evaluate(b)), b, self.g),)


class BernoulliDisARM(Bits):
    """(f - f') (b - b') sigmoid(abs(logit)) / 2 over one antithetic pair."""

    def __init__(self, objective: BernoulliQuadratic) -> None:
        super().__init__(objective, n=2)

    def draw(self, generator: Generator) -> Tensor:
        u = torch.rand(self.u[0].shape, generator=generator, out=self.u[0])
        torch.lt(u, self.p, out=self.b[0])
        torch.gt(u, 1 - self.p, out=self.b[1])
        return self.b

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        b = self.draw(generator)
        f = self.evaluate(b)
        w = f[0].sub_(f[1]).mul_(max(self.p, 1 - self.p) / 2).unsqueeze(-1)
        return (torch.sub(b[0], b[1], out=self.g).mul_(w),)


class BernoulliGumbel(Bits):
    """h y (1 - y) / temperature at the relaxed bits y."""

    def __init__(self, objective: BernoulliQuadratic, temperature: float) -> None:
        super().__init__(objective, n=1)
        self.temperature = temperature

    def relaxed(self, temperature: float) -> Tensor:
        """Return ``sigmoid((logit + logit u) / temperature)``."""
        y = torch.logit(self.u, eps=1e-7, out=self.scratch)
        return y.add_(self.logit).mul_(1 / temperature).sigmoid_()

    def bare(self, generator: Generator) -> None:
        torch.rand(self.u.shape, generator=generator, out=self.u)
        y = self.relaxed(self.temperature)
        y.sub_(self.target).mul_(y).sum(-1)

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``2 (x - target) y (1 - y) / temperature``."""
        jacobian = torch.addcmul(y, y, y, value=-1, out=self.u)  # y - y^2
        return torch.sub(x, self.target, out=self.b).mul_(jacobian).mul_(2 / self.temperature)[0]

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        torch.rand(self.u.shape, generator=generator, out=self.u)
        y = self.relaxed(self.temperature)
        return (self.slope(y, y),)


class BernoulliSTGumbel(BernoulliGumbel):
    """h y (1 - y) / temperature with h at the bits, which are 1 if u > 1 - p, and y relaxed."""

    def draw(self, generator: Generator) -> Tensor:
        torch.rand(self.u.shape, generator=generator, out=self.u)
        return torch.gt(self.u, 1 - self.p, out=self.b)

    def bare(self, generator: Generator) -> None:
        self.evaluate(self.draw(generator))

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        b = self.draw(generator)
        return (self.slope(b, self.relaxed(self.temperature)),)


class BernoulliREBAR(Bits):
    """(f - c) (b - p) + slope (1 + P(b) (exp(-abs(z)) - 1)), with c and slope of the relaxed f, times eta."""

    def __init__(self, objective: BernoulliQuadratic, temperature: float, coefficient: float) -> None:
        super().__init__(objective, n=1)
        self.temperature, self.coefficient = temperature, coefficient
        self.z, self.y = torch.empty(2, *self.u.shape)
        self.c = torch.empty(1, self.rows)

    def points(self, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        torch.rand(self.u.shape, generator=generator, out=self.u)
        z = torch.logit(self.u, eps=1e-7, out=self.z).add_(self.logit)
        b = torch.gt(z, 0, out=self.b)
        return z, b, torch.mul(z, 1 / self.temperature, out=self.y).sigmoid_()

    def bare(self, generator: Generator) -> None:
        _, b, y = self.points(generator)
        self.evaluate(b)
        self.evaluate(y)

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        z, b, y = self.points(generator)
        f = self.evaluate(b)
        h = torch.sub(y, self.target, out=self.scratch)
        c = torch.sum(torch.mul(h, h, out=self.u), -1, out=self.c)
        weight = f.sub_(c, alpha=self.coefficient).unsqueeze(-1)
        slope = h.mul_(y.addcmul_(y, y, value=-1)).mul_(2 * self.coefficient / self.temperature)
        outcome = torch.mul(b, 2 * self.p - 1, out=self.u).add_(1 - self.p)
        slope.addcmul_(slope, z.abs_().neg_().expm1_().mul_(outcome))
        return (slope.addcmul_(b.sub_(self.p), weight)[0],)


class BernoulliRELAX(BernoulliREBAR):
    """REBAR with a network of one hidden layer on the relaxed bits instead of the relaxed f."""

    def __init__(self, objective: BernoulliQuadratic, state: LearnedRelaxation) -> None:
        super().__init__(objective, state.log_temperature.exp().item(), 1.0)
        inner, bias, self.outer = (t.detach() for t in (state.inner, state.bias, state.outer))
        self.inner, self.bias = 2 * inner, bias - inner.sum(0)  # of 2 y - 1, which is never computed
        self.level = (state.offset + state.mean).item()
        self.hidden = torch.empty(self.rows, len(self.bias))

    def bare(self, generator: Generator) -> None:
        _, b, y = self.points(generator)
        self.evaluate(b)
        self.network(y[0])

    def network(self, y: Tensor) -> Tensor:
        """Return ``outer . tanh(inner y + bias)``; the hidden layer stays."""
        return torch.mv(torch.addmm(self.bias, y, self.inner, out=self.hidden).tanh_(), self.outer, out=self.c[0])

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        z, b, y = (t[0] for t in self.points(generator))
        f = self.evaluate(b.unsqueeze(0))[0]
        weight = f.sub_(self.network(y)).sub_(self.level).unsqueeze(-1)
        back = self.hidden.mul_(self.hidden).neg_().add_(1).mul_(self.outer)
        slope = torch.mm(back, self.inner.T, out=self.scratch[0]).mul_(y.addcmul_(y, y, value=-1))
        slope.mul_(1 / self.temperature)
        outcome = torch.mul(b, 2 * self.p - 1, out=self.u[0]).add_(1 - self.p)
        slope.addcmul_(slope, z.abs_().neg_().expm1_().mul_(outcome))
        return (slope.addcmul_(b.sub_(self.p), weight),)


# W4: f = a.z + (b.z)^2 over one-hot variables ------------------------------------------------------------------------


class OneHots(Closed):
    """The draws and the f of all categorical rows. A sample has shape ``[rows, dim, classes]``."""

    def __init__(self, objective: CategoricalLinearQuadratic, n: int) -> None:
        dim, classes = objective.dim, objective.classes
        self.rows = block_rows(n * dim * classes)
        self.shape = (n, self.rows, dim, classes)
        problem = objective.build()
        self.p = problem.theta["logits"].detach().softmax(-1)
        draws = torch.randn((3, dim * classes), generator=Generator().manual_seed(objective.seed), dtype=torch.float64)
        self.a, self.b = (draws[1:] / math.sqrt(dim)).float()
        cdf = self.p.cumsum(-1)
        self.starts = torch.cat([torch.zeros(dim, 1), (cdf / cdf[:, -1:])[:, :-1]], 1)
        self.u = torch.empty(*self.shape[:3], 1)
        self.x, self.h, self.scratch = torch.empty(3, *self.shape)
        self.first, self.second = torch.empty(2, n * self.rows)
        self.inner = torch.empty(*self.shape[:3], 1)
        self.ones = torch.ones(classes)

    def draw(self, generator: Generator) -> Tensor:
        """Return one-hot samples: 1 in the last category whose interval starts at or below u.

        Copying u for every category and comparing equal shapes takes half the time of broadcasting over a short axis.
        """
        torch.rand(self.u.shape, generator=generator, out=self.u)
        begun = self.scratch.copy_(self.u.expand(self.shape))
        torch.ge(begun, self.starts, out=begun)
        flat = begun.view(-1)
        torch.sub(flat[:-1], flat[1:], out=self.x.view(-1)[:-1])
        self.x[..., -1] = begun[..., -1]
        return self.x

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and b.x, ``[n rows]`` each. (One product with both columns takes seven times as long.)"""
        flat = x.view(len(self.first), -1)
        second = torch.mv(flat, self.b, out=self.second)
        return torch.mv(flat, self.a, out=self.first).addcmul_(second, second), second

    def bare(self, generator: Generator) -> None:
        self.evaluate(self.draw(generator))

    def slope(self, x: Tensor) -> Tensor:
        """Return ``h = a + 2 (b.x) b``, ``[n, rows, dim, classes]``."""
        _, second = self.evaluate(x)
        h = self.h.view(len(second), -1)
        torch.addcmul(self.a, second.unsqueeze(1), self.b, value=2, out=h)
        return self.h

    def through_softmax(self, p: Tensor, h: Tensor, out: Tensor) -> Tensor:
        """Return ``p (h - p.h)``, the Jacobian of the softmax at p applied to h."""
        torch.mul(p, h, out=out)
        self.dot(out)
        return out.addcmul_(p, self.inner, value=-1)

    def dot(self, products: Tensor) -> Tensor:
        """Return the sum over classes, by a matrix product: a short reduction costs five times as much."""
        torch.mv(products.view(-1, len(self.ones)), self.ones, out=self.inner.view(-1))
        return self.inner

    def flat(self, g: Tensor) -> tuple[Tensor, ...]:
        return (g.view(self.rows, -1),)


class CategoricalGumbel(OneHots):
    """J(y) h / temperature at the relaxed sample y, which is proportional to (p / E)^(1/temperature)."""

    def __init__(self, objective: CategoricalLinearQuadratic, temperature: float) -> None:
        super().__init__(objective, n=1)
        self.temperature = temperature

    def draw(self, generator: Generator) -> Tensor:
        y = torch.rand(self.shape, generator=generator, out=self.x)
        torch.div(self.p, y.clamp_(1e-7, 1 - 1e-7).log_().neg_(), out=y)
        if self.temperature != 1:
            y.pow_(1 / self.temperature)
        return y.div_(self.dot(y))

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        y = self.draw(generator)
        return self.flat(self.through_softmax(y, self.slope(y), self.scratch).mul_(1 / self.temperature))


class CategoricalST(OneHots):
    """J(p) h, with J(p) = diag(p) - p p^T the Jacobian of the softmax."""

    def __init__(self, objective: CategoricalLinearQuadratic) -> None:
        super().__init__(objective, n=1)

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        return self.flat(self.through_softmax(self.p, self.slope(self.draw(generator)), self.scratch))


class CategoricalReinMax(OneHots):
    """2 J((p + x) / 2) h - J(p) h / 2."""

    def __init__(self, objective: CategoricalLinearQuadratic) -> None:
        super().__init__(objective, n=1)
        self.other = torch.empty(self.shape)

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        x = self.draw(generator)
        h = self.slope(x)
        m = x.add_(self.p).mul_(0.5)
        g = self.through_softmax(m, h, self.scratch)
        return self.flat(g.mul_(2).sub_(self.through_softmax(self.p, h, self.other), alpha=0.5))


class CategoricalRLOO(OneHots):
    """sum w x; the weights w add up to 0."""

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        n, rows, *_ = self.shape
        x = self.draw(generator)
        f, _ = self.evaluate(x)
        return (weighted_sum(leave_one_out(f.view(n, rows)), x.view(n, rows, -1), self.h[0].view(rows, -1)),)


# W5: the bound of a Bayesian logistic regression ---------------------------------------------------------------------


class Logistic(Closed):
    """The draws of both rows, and f.

    ``f = sum log sigmoid(data w) + log N(w; 0, I) - log N(w; mean, exp(log_scale)^2)``

    A 32nd column of zeros halves the time of the product in the gradient.
    """

    def __init__(self, objective: LogisticRegression, n: int) -> None:
        from bench.objectives.logistic_regression import signed_data

        self.rows, self.n, self.dim = max(8, ELEMENTS // (n * objective.row_elements)), n, objective.dim
        self.data = pad(signed_data().float(), (0, 1))
        self.transposed = self.data.T.contiguous()
        self.mean, self.log_scale = objective.mean, objective.log_scale
        self.scale = math.exp(objective.log_scale)
        points = n * self.rows
        self.z = torch.empty(points, self.dim)
        self.wide, self.h = torch.zeros(2, points, self.data.shape[1])
        self.w = self.wide[:, : self.dim]
        self.a, self.fa = torch.empty(2, points, objective.row_elements)
        self.loc_gradient, self.scale_gradient = torch.empty(2, self.rows, self.dim)

    def draw(self, generator: Generator) -> Tensor:
        torch.randn(self.z.shape, generator=generator, out=self.z)
        torch.mul(self.z, self.scale, out=self.w).add_(self.mean)
        return torch.mm(self.wide, self.transposed, out=self.a)

    def evaluate(self) -> Tensor:
        """Return f, by log sigmoid(a) = min(a, 0) + log sigmoid(abs(a)), with one logarithm for 120 rows of data."""
        negative = torch.clamp(self.a, max=0, out=self.fa).sum(1)
        sure = torch.abs(self.a, out=self.fa).sigmoid_()
        likelihood = torch.stack([part.prod(1) for part in sure.split(120, 1)]).log_().sum(0).add_(negative)
        rest = (self.z.square() - self.w.square()).sum(1).mul_(0.5).add_(self.dim * self.log_scale)
        return likelihood.add_(rest)

    def bare(self, generator: Generator) -> None:
        self.draw(generator)
        self.evaluate()


class LogisticPathwise(Logistic):
    """mean h, and mean h scale z + 1 for the log-scale: the density of q has the entropy's gradient along the path."""

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        a = self.draw(generator)
        torch.mm(a.neg_().sigmoid_(), self.data, out=self.h)
        h, shape = self.h[:, : self.dim].sub_(self.w), (self.n, self.rows, self.dim)
        torch.mean(h.view(shape), 0, out=self.loc_gradient)
        torch.mean(self.z.mul_(h).view(shape), 0, out=self.scale_gradient)
        return self.loc_gradient, self.scale_gradient.mul_(self.scale).add_(1)


class LogisticRLOO(Logistic):
    """sum (w - 1/n) score: f depends on q, too, through log q, whose score has mean zero."""

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        self.draw(generator)
        w = leave_one_out(self.evaluate().view(self.n, self.rows)).sub_(1 / self.n)
        z = self.z.view(self.n, self.rows, -1)
        loc = weighted_sum(w, z, self.loc_gradient).mul_(1 / self.scale)
        return loc, weighted_sum(w, z.mul_(z), self.scale_gradient).add_(1)


# W6: the bound of a variational autoencoder with binary latents ------------------------------------------------------


class Autoencoder(Closed):
    """The decoder's bound at bits, and the pull-back of row gradients through the encoder, of all rows."""

    def __init__(self, objective: BernoulliVAE, n: int) -> None:
        from bench.objectives.autoencoders.images import images

        self.rows, self.n = 64, n
        problem = objective.build()
        theta = {name: t.detach() for name, t in problem.theta.items()}
        self.batch, self.dim, self.hidden = objective.batch, objective.dim, objective.hidden
        self.x = images("digits").bits()[: self.batch].float()
        self.sign = 2 * self.x - 1
        inside = torch.addmm(theta["hidden_bias"], self.x, theta["hidden_weight"].T)
        self.active = leaky_relu(inside, 0.3)
        self.rise = torch.where(inside > 0, 1.0, 0.3)
        self.weight = theta["weight"]
        self.logits = torch.addmm(theta["bias"], self.active, self.weight.T)
        self.p = self.logits.sigmoid()
        # A bit adds its logit to log q: as bits are 0 or 1, log q(b) = b.logits + sum log(1 - p).
        self.log_q_at_0 = torch.log1p(-self.p).sum(-1)
        w1, b1, w2, b2 = problem.extra.values()
        self.decoder = w1.T.contiguous(), b1, w2.T.contiguous(), b2
        rows, batch, dim, hidden = self.rows, self.batch, self.dim, self.hidden
        # Samples are decoded a few at a time, so that tensors have the usual size of a block.
        self.chunk = max(1, ELEMENTS // (batch * hidden))
        self.u, self.b = torch.empty(2, n, rows, batch, dim)
        self.first = torch.empty(self.chunk * batch, hidden)
        self.pixels, self.fa, self.buffer = torch.empty(3, self.chunk * batch, self.x.shape[1])
        self.f = torch.empty(n, rows, batch)
        self.g = torch.empty(rows, batch, dim)
        self.back = torch.empty(rows, batch, hidden)
        sizes = self.hidden * self.x.shape[1], self.hidden, self.dim * self.hidden, self.dim
        self.out = [torch.empty(rows, size) for size in sizes]

    def draw(self, generator: Generator) -> Tensor:
        torch.rand(self.u.shape, generator=generator, out=self.u)
        return torch.lt(self.u, self.p, out=self.b)

    def decode(self, b: Tensor) -> Tensor:
        """Return the pixels' logits, signed by the image, ``[chunk batch, pixels]``."""
        w1, b1, w2, b2 = self.decoder
        count = len(b)
        first = torch.addmm(b1, b, w1, out=self.first[:count])
        torch._C._nn.leaky_relu_(first, 0.3)
        pixels = torch.addmm(b2, first, w2, out=self.pixels[:count])
        return pixels.view(-1, *self.sign.shape).mul_(self.sign).view(count, -1)

    def evaluate(self, b: Tensor) -> Tensor:
        """Return f, ``[n, rows, batch]``."""
        points, f = b.view(-1, self.dim), self.f.view(-1)
        step = self.chunk * self.batch
        for start in range(0, len(points), step):
            pixels = self.decode(points[start : start + step])
            fa, buffer = self.fa[: len(pixels)], self.buffer[: len(pixels)]
            torch.ops.aten.log_sigmoid_forward.output(pixels, output=fa, buffer=buffer)
            torch.sum(fa, 1, out=f[start : start + len(pixels)])
        torch.mul(b, self.logits, out=self.u)
        return self.f.sub_(self.u.sum(-1)).sub_(self.log_q_at_0 + self.dim * math.log(2))

    def bare(self, generator: Generator) -> None:
        self.evaluate(self.draw(generator))

    def pulled(self, g: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the encoder, from the gradients ``g`` of its outputs, ``[rows, batch, dim]``."""
        g.mul_(1 / self.batch)
        hidden_weight, hidden_bias, weight, bias = self.out
        shape = (self.rows, self.dim, self.hidden)
        torch.bmm(g.transpose(1, 2), self.active.expand(self.rows, -1, -1), out=weight.view(shape))
        torch.sum(g, 1, out=bias)
        torch.mm(g.view(-1, self.dim), self.weight, out=self.back.view(-1, self.hidden))
        back = self.back.mul_(self.rise)
        shape = (self.rows, self.hidden, self.x.shape[1])
        torch.bmm(back.transpose(1, 2), self.x.expand(self.rows, -1, -1), out=hidden_weight.view(shape))
        torch.sum(back, 1, out=hidden_bias)
        return tuple(self.out)


class AutoencoderRLOO(Autoencoder):
    """sum (w - 1/n) (b - p): f depends on q, too, through log q, whose score has mean zero."""

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        b = self.draw(generator)
        w = leave_one_out(self.evaluate(b)).sub_(1 / self.n)
        weighted_sum(w.view(self.n, -1), b.view(self.n, -1, self.dim), self.g.view(-1, self.dim))
        return self.pulled(self.g.add_(self.p))


class AutoencoderDisARM(Autoencoder):
    """(f - f') (b - b') sigmoid(abs(logit)) / 2 - mean (b - p), over one antithetic pair."""

    def __init__(self, objective: BernoulliVAE) -> None:
        super().__init__(objective, n=2)

    def draw(self, generator: Generator) -> Tensor:
        u = torch.rand(self.u[0].shape, generator=generator, out=self.u[0])
        torch.lt(u, self.p, out=self.b[0])
        torch.gt(u, 1 - self.p, out=self.b[1])
        return self.b

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        b = self.draw(generator)
        f = self.evaluate(b)
        w = f[0].sub_(f[1]).mul_(0.5).unsqueeze(-1)
        g = torch.sub(b[0], b[1], out=self.g).mul_(w).mul_(torch.maximum(self.p, 1 - self.p))
        return self.pulled(g.sub_(b.mean(0)).add_(self.p))


class AutoencoderSTGumbel(Autoencoder):
    """h y (1 - y) / temperature - (b - p), h = df/db at the bits, y relaxed."""

    def __init__(self, objective: BernoulliVAE, temperature: float) -> None:
        super().__init__(objective, n=1)
        self.temperature = temperature
        self.h = torch.empty(self.rows, self.batch, self.dim)
        w1, _, w2, _ = self.decoder
        self.back_weights = w1.T.contiguous(), w2.T.contiguous()

    def draw(self, generator: Generator) -> Tensor:
        torch.rand(self.u.shape, generator=generator, out=self.u)
        return torch.gt(self.u, 1 - self.p, out=self.b)

    def slope(self, b: Tensor) -> Tensor:
        """Return df/db, ``[rows, batch, dim]``: back through the decoder, and minus the logit from log q."""
        points, h = b.view(-1, self.dim), self.h.view(-1, self.dim)
        w1, w2 = self.back_weights
        step = self.chunk * self.batch
        for start in range(0, len(points), step):
            pixels = self.decode(points[start : start + step])
            rise = torch.where(self.first[: len(pixels)] > 0, 1.0, 0.3)
            slopes = pixels.neg_().sigmoid_().view(-1, *self.sign.shape).mul_(self.sign).view(len(pixels), -1)
            torch.mm(torch.mm(slopes, w2).mul_(rise), w1, out=h[start : start + len(pixels)])
        return self.h.sub_(self.logits)

    def gradients(self, generator: Generator) -> tuple[Tensor, ...]:
        b = self.draw(generator)
        y = torch.logit(self.u[0], eps=1e-7, out=self.g).add_(self.logits).mul_(1 / self.temperature).sigmoid_()
        jacobian = torch.addcmul(y, y, y, value=-1, out=self.u[0]).mul_(1 / self.temperature)
        g = torch.mul(self.slope(b), jacobian, out=self.g)
        return self.pulled(g.sub_(b[0]).add_(self.p))
