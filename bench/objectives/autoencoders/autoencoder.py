"""The base class of autoencoders, for any latents: data, networks, training and the point of measurement."""

import abc
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Independent

from bench.objectives._checks import at_least, error, one_of
from bench.objectives._protocol import Objective, Problem, Theta
from bench.objectives.autoencoders.images import SIDES, Images, count, images
from bench.objectives.autoencoders.networks import copies, initial, network
from bench.objectives.autoencoders.training import pictures, trainable
from bench.objectives.autoencoders.weights import TRAINED, digest_of_file, load_into
from bench.objectives.log_sigmoid import sum_log_sigmoid
from estimators import Bound, command_line_name


class Autoencoder(Objective):
    """Evidence lower bound of a variational autoencoder with latents z, averaged over small images x.

    ``f(z) = log p(x | z) + log p(z) - log q(z | x)``

    If ``particles`` is not None, f is the importance-weighted bound. The gradient is taken in theta, the encoder's
    weights; ``extra`` holds the decoder's weights. A subclass is a frozen dataclass with the fields ``dim``,
    ``hidden``, ``batch``, ``seed``, ``at``, ``data`` and ``particles``, in any order. It defines the abstract methods.
    Three of them are for pictures only: ``_most_likely``, ``_prior_samples`` and ``_walk``. In the shapes of their
    arguments, ``*latents`` is the shape of the latents of one image, such as ``dim`` for bits.
    """

    hidden: int
    """Number of hidden units in the encoder, and in the decoder."""
    batch: int
    """Number of images in a measurement, and in a minibatch."""
    seed: int
    """Seed of the initial weights and of the order of minibatches."""
    at: str
    """Weights at which to measure: "initial", "trained" or the path of a file."""
    data: str
    """Name of the data set that the images come from."""

    bound = True

    def __post_init__(self) -> None:
        at_least(self, dim=1, hidden=1, batch=1, seed=0)
        if self.particles is not None:
            at_least(self, particles=1)
        one_of(self, "data", *SIDES)
        name = type(self).__name__
        if self.batch > (most := count(self.data)):
            raise ValueError(
                f"{name} needs batch <= {most}, the number of images (got batch={self.batch}). Use batch=32."
            )
        if not isinstance(self.at, str) or not self.at:
            raise error(self, "at", "at='initial', 'trained' or the path of a file of weights")
        if self.at == "trained" and self.data != "digits":
            raise ValueError(
                f"The weights of at=trained were trained on data=digits (got data={self.data}). Train your own with "
                f"`bench train -o {command_line_name(type(self))}:data={self.data} --keep-weights`, and set at to the "
                "path of their file."
            )
        if self.weights_file is not None:
            self.build()  # reads the weights and checks their shapes

    # The latents: what a subclass says --------------------------------------------------------------------------------

    @abc.abstractmethod
    def _posterior(self, output: Tensor) -> Distribution:
        """Return q(z | x), batch shape ``[batch, (particles,) dim]``, from encoder outputs, ``[batch, outputs]``."""

    @abc.abstractmethod
    def _log_prior(self, z: Tensor) -> Tensor | float:
        """Return log p(z), ``[...]`` from ``[..., *latents]``, or one number if p is uniform."""

    @abc.abstractmethod
    def bounds(self, x: Tensor, output: Tensor, decoder: Theta) -> Tensor:
        """Return the exact evidence lower bound of every image, ``[batch]``.

        Args:
            x: images, ``[batch, pixels]``.
            output: the encoder's output for the images, ``[batch, outputs]``.
            decoder: the decoder's weights.
        """

    @abc.abstractmethod
    def _most_likely(self, output: Tensor) -> Tensor:
        """Return the most likely latents, ``[images, *latents]``, from the encoder's output."""

    @abc.abstractmethod
    def _prior_samples(self, generator: Generator, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """Return draws of the latents from p(z), ``[SAMPLES, *latents]``."""

    @abc.abstractmethod
    def _walk(self, codes: Tensor) -> Tensor:
        """Return latents along the two directions that vary most in ``codes``, ``[steps, steps, *latents]``."""

    # The networks: what a subclass may change -------------------------------------------------------------------------

    @property
    def _decoder_widths(self) -> tuple[int, ...]:
        """Width of every layer of the decoder, from its inputs to the pixels."""
        return self.dim, self.hidden, self.pixels

    @property
    def _encoder_outputs(self) -> int:
        """Number of outputs of the encoder."""
        return self._decoder_widths[0]

    def _observed(self, held: Images, which: slice | Tensor) -> Tensor:
        """Return some images as the decoder models them, ``[images, pixels]``, float64: here as bits."""
        return held.bits(which)

    def _decode(self, z: Tensor, decoder: Theta) -> Tensor:
        """Return the decoder's output, ``[..., pixels]`` from ``[..., *latents]``."""
        return network(z, decoder)

    def _mean_image(self, z: Tensor, decoder: Theta) -> Tensor:
        """Return the mean of p(x | z), ``[..., pixels]``: here the probability of a white pixel."""
        return self._decode(z, decoder).sigmoid()

    def _log_likelihood(self, x: Tensor, z: Tensor, decoder: Theta) -> Tensor:
        """Return log p(x | z), ``[...]``: here of independent bits."""
        return sum_log_sigmoid(self._decode(z, decoder).mul_(2 * x - 1))

    # The objective ----------------------------------------------------------------------------------------------------

    @property
    def pixels(self) -> int:
        """Number of pixels of an image."""
        return int(SIDES[self.data] ** 2)

    @property
    def row_elements(self) -> int:
        """Number of values in the decoder's widest layer for one sample, over all images and particles together."""
        return self.batch * (self.particles or 1) * max(self._decoder_widths)

    @property
    def weights_file(self) -> Path | None:
        """Path of the file of weights that the field ``at`` names; None for initial weights."""
        if self.at == "initial":
            return None
        return TRAINED / f"{command_line_name(type(self))}.pt" if self.at == "trained" else Path(self.at)

    @property
    def contents(self) -> dict[str, str]:
        """Digests: of the file of images under the key "data", and of the file of weights under the key "at".

        A key is missing if the field of this name names no file: ``data="digits"`` and ``at="initial"`` name none.
        """
        found, path = dict[str, str](), self.weights_file
        if self.data != "digits":
            found["data"] = images(self.data).digest
        if path is not None and path.is_file():
            found["at"] = digest_of_file(path)
        return found

    def restarted(self, seed: int) -> Self:
        """Return the autoencoder for another training run: with ``seed`` added to its own seed.

        Unless ``seed`` is 0, the initial weights and the order of minibatches are new.
        """
        return replace(self, seed=self.seed + seed)  # type: ignore[type-var]  # subclasses are dataclasses

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        held, event_axes = images(self.data).to(device), 1 if self.particles is None else 2
        generator = Generator().manual_seed(self.seed)
        theta = initial((self.pixels, self.hidden, self._encoder_outputs), generator, dtype, device)
        extra = initial(self._decoder_widths, generator, dtype, device)
        for t in theta.values():
            t.requires_grad_()

        def seen(which: slice | Tensor) -> Tensor:
            return self._observed(held, which).to(dtype)

        def on(x: Tensor) -> Problem:
            seen_by_each = copies(x, self.particles)

            def q(theta: Theta) -> Distribution:
                return Independent(self._posterior(network(x, theta)), event_axes, validate_args=False)

            def log_joint(z: Tensor) -> Tensor:
                log_prior = self._log_prior(z)
                return self._log_likelihood(seen_by_each, z, extra) + log_prior

            def exact(theta: Theta) -> Tensor:
                return self.bounds(x, network(x, theta), extra).mean()

            known = exact if self.has_exact else None
            return Problem(theta, q, lambda q: Bound(log_joint, q, self.particles), known, extra)

        drawn = pictures(
            lambda: seen(slice(held.trained, None)),
            code=lambda x: self._most_likely(network(x, theta)),
            decoded=lambda z: self._mean_image(z, extra),
            prior=lambda generator: self._prior_samples(generator, dtype, device),
            walk=self._walk,
        )
        problem = replace(trainable(on, held, seen, self.batch, self.seed), pictures=drawn)
        if (path := self.weights_file) is not None:
            load_into(problem, path, type(self).__name__)
        return problem
