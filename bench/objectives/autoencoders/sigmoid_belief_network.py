"""A sigmoid belief network with two or more layers of bits."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, Independent
from torch.nn.functional import linear, logsigmoid

from bench.objectives._checks import at_least, one_of
from bench.objectives._protocol import Objective, Problem, Theta
from bench.objectives.autoencoders.images import SIDES, count, images
from bench.objectives.autoencoders.networks import initial
from bench.objectives.autoencoders.training import trainable
from bench.objectives.log_sigmoid import sum_log_sigmoid
from estimators import RLOO, Layers, Return

ENUMERABLE = 15
"""Largest number of bits in all layers together for which the exact value is computed."""


@dataclass(frozen=True)
class SigmoidBeliefNetwork(Objective):
    """Evidence lower bound of a sigmoid belief network, averaged over small images: layers of bits in a row.

    ``f(z) = log p(x | z_1) + log p(z_1 | z_2) + ... + log p(z_L) - log q(z | x)``
    ``q(z | x) = q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_(L-1))``

    Every conditional distribution is a product of Bernoullis; their logits are linear in the given layer. p(z_L) is
    uniform. q is a ``Layers``, and f a ``Return``: the cost of layer k is
    ``log p(z_(k-1) | z_k) - log q(z_k | z_(k-1))``, where z_0 is the image x. The cost of the last layer also has the
    term ``log p(z_L)``. A pixel is 1 if it exceeds half of its range, else 0. The gradient is taken in theta, the
    weights of q: ``weight1``, ``bias1`` and so on. ``extra`` holds the weights of p, which are constants unless they
    are set to require gradients. Initial weights and biases are uniform within 1/sqrt(inputs) of 0. The objective is
    maximised. f is defined for all real z. Exact value: sums over the states of neighbouring layers if there are at
    most 15 bits, else a Monte Carlo reference, the mean of a long run. Bad arguments and unreadable data raise
    ``ValueError``.

    Args:
        layers: number L of layers of bits, at least 2.
        width: number of bits in each layer, at least 1.
        batch: number of images, at least 1: the first images of the data or, in training, a minibatch.
        seed: seed of the initial weights and of the order of minibatches, at least 0.
        data: "digits" (1797 images of 8 x 8, scikit-learn) or "mnist", "fashion-mnist", "omniglot" (28 x 28; from your
            own files, in the folder that ``--data-dir`` names).

    Reference: Neal 1992; the linear networks of Gu, Levine, Sutskever & Mnih 2016 (MuProp), section 5. Data: Alpaydin &
    Kaynak 1998, as bundled with scikit-learn.
    """

    layers: int = 2
    width: int = 5
    batch: int = 8
    seed: int = 0
    data: str = "digits"

    family = Layers
    costs = True
    maximise = True
    reference_estimator = RLOO(n=8, credit="downstream")
    reference = "Gu et al. 2016"

    def __post_init__(self) -> None:
        at_least(self, layers=2, width=1, batch=1, seed=0)
        one_of(self, "data", *SIDES)
        if self.batch > (most := count(self.data)):
            raise ValueError(
                f"SigmoidBeliefNetwork needs batch <= {most}, the number of images (got batch={self.batch}). "
                "Use batch=8."
            )

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Number of bits in all layers."""
        return self.layers * self.width

    @property
    def layer_families(self) -> tuple[type[Distribution], ...]:  # type: ignore[override]
        """Class of the distribution of each layer of q, in order: ``Bernoulli`` for every layer."""
        return (Bernoulli,) * self.layers

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the exact value is known: only if there are few enough bits to sum over the states of all layers."""
        return self.dim <= ENUMERABLE

    @property
    def row_elements(self) -> int:
        """Number of elements in the largest tensor of one estimate with one sample.

        The result is the larger of two numbers. One is the number of values in the widest layer, over all images; the
        pixels count as a layer. The other is the number of weights and biases of all layers of q but the first.
        """
        return max(self.batch * max(self.pixels, self.width), (self.layers - 1) * self.width * (self.width + 1))

    @property
    def pixels(self) -> int:
        """Number of pixels of an image."""
        return int(SIDES[self.data] ** 2)

    @property
    def contents(self) -> dict[str, str]:
        """Digest of the file of images, under the key "data"; empty for ``data="digits"``, which names no file."""
        return {} if self.data == "digits" else {"data": images(self.data).digest}

    def restarted(self, seed: int) -> "SigmoidBeliefNetwork":
        """Return the objective for another training run: with ``seed`` added to its own seed.

        Unless ``seed`` is 0, the initial weights and the order of minibatches are new.
        """
        return replace(self, seed=self.seed + seed)

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        held, generator = images(self.data).to(device), Generator().manual_seed(self.seed)
        widths = (self.pixels, *(self.width,) * self.layers)

        def drawn(inputs: int, outputs: int, k: int) -> Theta:
            return {f"{name}{k}": t for name, t in initial((inputs, outputs), generator, dtype, device).items()}

        theta, extra = dict[str, Tensor](), dict[str, Tensor]()
        for k, (below, above) in enumerate(itertools.pairwise(widths), 1):
            theta |= drawn(below, above, k)
            extra |= drawn(above, below, k)
        for t in theta.values():
            t.requires_grad_()

        def seen(which: slice | Tensor) -> Tensor:
            return held.bits(which).to(dtype)

        def on(x: Tensor) -> Problem:
            def q(theta: Theta) -> Distribution:
                own = {"logits": linear(x, theta["weight1"], theta["bias1"])}
                above = {name: t for name, t in theta.items() if name not in ("weight1", "bias1")}
                return Layers(own | above, (_first, *(_layer(k) for k in range(2, self.layers + 1))))

            def integrand(q: Distribution) -> Return:
                assert isinstance(q, Layers)

                def costs(z: Tensor) -> Tensor:
                    each, log_p, below = q.split(z), [], 2 * x - 1
                    for k, bits in enumerate(each, 1):
                        log_p.append(sum_log_sigmoid(linear(bits, extra[f"weight{k}"], extra[f"bias{k}"]) * below))
                        below = 2 * bits - 1
                    log_p[-1] = log_p[-1] - self.width * math.log(2)
                    return torch.stack(log_p, -1) - q.log_probs(z)

                return Return(costs)

            def exact(theta: Theta) -> Tensor:
                return self._bounds(x, theta, extra).mean()

            return Problem(theta, q, integrand, exact if self.has_exact else None, extra)

        return trainable(on, held, seen, self.batch, self.seed)

    def _bounds(self, x: Tensor, theta: Theta, decoder: Theta) -> Tensor:
        """Return the evidence lower bound of every image, ``[batch]``: sums over the states of neighbouring layers."""
        states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=self.width)), dtype=x.dtype, device=x.device)

        def log_mass(logits: Tensor) -> Tensor:
            """Return the log-probability of every state, ``[..., states]``, from logits ``[..., width]``."""
            return logits @ states.T + logsigmoid(-logits).sum(-1, keepdim=True)

        pixels = linear(states, decoder["weight1"], decoder["bias1"])
        log_q = log_mass(linear(x, theta["weight1"], theta["bias1"]))
        mass = log_q.exp()  # of the states of a layer, [batch, states]
        total = (mass * (x @ pixels.T + logsigmoid(-pixels).sum(-1) - log_q)).sum(-1)
        for k in range(2, self.layers + 1):
            log_q = log_mass(linear(states, theta[f"weight{k}"], theta[f"bias{k}"]))  # [states below, states]
            log_p = log_mass(linear(states, decoder[f"weight{k}"], decoder[f"bias{k}"])).T
            total = total + mass @ (log_q.exp() * (log_p - log_q)).sum(-1)
            mass = mass @ log_q.exp()
        return total - self.width * math.log(2)


def _first(w: Theta) -> Distribution:
    return Independent(Bernoulli(logits=w["logits"], validate_args=False), 1, validate_args=False)


def _layer(k: int) -> Callable[..., Distribution]:
    """Return the function that makes layer k from the weights and the samples of the layers before it."""

    def above(w: Theta, *z: Tensor) -> Distribution:
        logits = z[-1] @ w[f"weight{k}"].mT + w[f"bias{k}"].unsqueeze(-2)
        return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)

    return above
