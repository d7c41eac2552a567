"""A user's loss: called with the arguments that it names, checked, and differentiated for many batches at once."""

import inspect
import re
from collections.abc import Callable, Mapping
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.planning.catalogue import did_you_mean
from bench.planning.selectors import UsageError

Batch = Mapping[str, Tensor]
"""The arguments of a loss by name. Many batches have one more axis on the left."""
ARGUMENTS = {
    "logp": "log-probability of each token under the policy that is trained, `[prompts, group, length]`",
    "old_logp": "log-probability of each token under the policy that wrote it, `[prompts, group, length]`",
    "ref_logp": "log-probability of each token under the reference policy, `[prompts, group, length]`",
    "mask": "whether a token belongs to its sequence, up to and including the end: bool, `[prompts, group, length]`",
    "rewards": "reward of each sequence, `[prompts, group]`",
    "tokens": "the tokens, whole numbers, `[prompts, group, length]`; 0 ends a sequence",
}
"""What a loss can ask for, by name."""
CHUNK = 2**19
"""Most log-probabilities for which a loss is computed at once."""
JOINED = 256
"""Most batches of one prompt that are joined to one batch, if a loss does not permit vmap."""
TRIED = 6
"""Number of batches with which a loss is tried before it is computed for many at once."""
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "old_logp": lambda t: t - 0.5,
    "ref_logp": lambda t: t - 0.5,
    "mask": torch.logical_not,
    "rewards": lambda t: 1 - t,
    "tokens": lambda t: (t + 1) % (t.max() + 1),
}
"""Other numbers for each argument but ``logp``: a loss that reads the argument has another value with them."""
SAME = 1e-5
"""Relative difference up to which two results are the same. A loss may compute in float32."""


class Loss:
    """A user's function that returns a loss to be minimised, with checks of what the function does.

    Args:
        function: the function. Its arguments are some of ``logp``, ``old_logp``, ``ref_logp``, ``mask``, ``rewards``
            and ``tokens``. Any other argument needs a default value, which is used.
        name: the name of the function in messages; by default its own name.

    Raises:
        UsageError: the function has another argument without a default, or has no ``logp``.
    """

    def __init__(self, function: Callable[..., Any], name: str = "") -> None:
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.keywords = frozenset[str]()
        """Arguments that are passed because the loss takes ``**kwargs``, and of which it may read some only."""
        self.names = self._asked(function)
        self.function = function
        self.is_vectorised = False
        self.averages: bool | None = None
        """Whether the loss averages over the prompts of a batch, or adds them up; None if it mixes them."""

    def __contains__(self, name: str) -> bool:
        return name in self.names

    @property
    def is_called_for_each(self) -> bool:
        """Whether the loss has to be called once for each batch.

        If so, it does not work under ``torch.func.vmap``, and batches cannot be joined to a larger one. The usual
        reason is that the gradient for a prompt depends on the other prompts of its batch.
        """
        return not self.is_vectorised and self.averages is None

    def _asked(self, function: Callable[..., Any]) -> tuple[str, ...]:
        """Return the names of the arguments that the function asks for."""
        if not callable(function) or inspect.isclass(function):
            kind = "a class" if inspect.isclass(function) else f"of type {type(function).__name__}"
            raise UsageError(f"{self.name} is {kind}, and a loss is a function.")
        if inspect.iscoroutinefunction(function):
            raise UsageError(f"{self.name} is an async function, and a loss is a plain one: remove async.")
        try:
            every = inspect.signature(getattr(function, "forward", function)).parameters.values()
        except ValueError:
            raise UsageError(f"{self.name} does not say which arguments it takes: give a function of Python.") from None
        kinds = inspect.Parameter
        given = [p for p in every if p.kind is not kinds.VAR_KEYWORD]
        for p in given:
            if p.name in ARGUMENTS and p.kind is kinds.POSITIONAL_ONLY:
                raise UsageError(f"{self.name} takes {p.name} by position only, and arguments come by name: remove /.")
            if p.name not in ARGUMENTS and p.default is kinds.empty and p.kind is not kinds.VAR_POSITIONAL:
                known = ", ".join(ARGUMENTS)
                raise UsageError(
                    f"{self.name} asks for an unknown argument {p.name!r}.{did_you_mean(p.name, ARGUMENTS)} A loss "
                    f"takes any of {known}, by name; any other argument needs a default."
                )
        asked = tuple(p.name for p in given if p.name in ARGUMENTS)
        if len(given) < len(every):
            self.keywords = frozenset(ARGUMENTS) - {"logp", *asked}
            return tuple(ARGUMENTS)
        if "logp" not in asked:
            raise UsageError(f"{self.name} does not take logp, so it has no gradient: make logp an argument.")
        return asked

    def try_out(self, batches: Batch) -> None:
        """Check the loss on a few batches, and set ``is_vectorised``: whether many batches can be computed at once.

        Args:
            batches: the arguments of several batches, by name, each ``[batches, ...]``.

        Raises:
            UsageError: the loss is no number, has no gradient, changes its arguments, or is random.
            Exception: whatever the loss raises.
        """
        few = {name: batches[name][:TRIED] for name in self.names}
        one_by_one = self._in_a_loop(few)
        self.names = tuple(name for name in self.names if name not in self.keywords or self._reads(name, few))
        few = {name: few[name] for name in self.names}
        self._first = few, one_by_one
        self.try_again()
        try:
            self.is_vectorised = _same(self._at_once(few), one_by_one)
        except Exception:  # such as .item(), an `if` on a tensor, or an operation that vmap lacks
            self.is_vectorised = False

    def _reads(self, name: str, batches: Batch) -> bool:
        """Return whether the loss of one of several batches is another one with other numbers in an argument.

        A loss that raises an exception then has read the argument, too.
        """

        def values(batches: Batch) -> Tensor:
            every = range(len(batches["logp"]))
            return torch.stack([self.function(**{n: v[k].clone() for n, v in batches.items()}) for k in every])

        with torch.no_grad():
            before = values(batches)
            try:
                after = values({**batches, name: OTHERS[name](batches[name])})
            except Exception:
                return True
        return not torch.equal(before.nan_to_num(), after.nan_to_num())

    def try_again(self) -> None:
        """Check that the loss still gives the gradients that it gave for the same batches in ``try_out``.

        Raises:
            UsageError: a gradient has changed.
        """
        few, before = self._first
        if not _same(self._in_a_loop(few), before):
            raise UsageError(
                f"{self.name} gives another gradient when it is called with the same batch again: make it a function "
                "of its arguments alone, without noise and without memory."
            )

    def weights(self, batches: Batch) -> Tensor:
        """Return minus the derivative of the loss with respect to each log-probability of a token in ``logp``.

        The shape is that of ``logp``: ``[batches, prompts, samples of a prompt, length]``.

        Args:
            batches: the arguments of many batches, by name, each ``[batches, ...]``.

        Raises:
            UsageError: the loss or its gradient is not finite.
            Exception: whatever the loss raises.
        """
        rows = max(1, CHUNK // batches["logp"][0].numel())
        size, parts = len(batches["logp"]), []
        for start in range(0, size, rows):
            chunk = {name: batches[name][start : start + rows] for name in self.names}
            found = self._at_once(chunk) if self.is_vectorised else self._in_parts(chunk)
            finite = found.isfinite().flatten(2).all(2)
            if not bool(finite.all()):
                row, prompt = (~finite).nonzero()[0].tolist()
                raise UsageError(self._not_finite(batches["rewards"][start + row, prompt]))
            parts.append(found)
        return torch.cat(parts)

    def _at_once(self, batches: Batch) -> Tensor:
        others = {name: value for name, value in batches.items() if name != "logp"}

        def value(logp: Tensor, others: Batch) -> Tensor:
            found: Tensor = self.function(logp=logp, **others)
            return found.reshape(())

        gradient, loss = torch.func.vmap(torch.func.grad_and_value(value))(batches["logp"], others)
        return _with_nan(-gradient, loss)

    def _in_parts(self, batches: Batch) -> Tensor:
        if batches["logp"].shape[1] > 1 or self.averages is None:
            return self._in_a_loop(batches)
        starts = range(0, len(batches["logp"]), JOINED)
        return torch.cat([self._joined({k: v[s : s + JOINED] for k, v in batches.items()}) for s in starts])

    def _joined(self, batches: Batch) -> Tensor:
        """Return the weights of batches of one prompt each, as those of one batch of many prompts.

        If the largest of them is another one alone, each is computed alone from then on.
        """
        if self.averages is not None:
            found = self._one({name: value.flatten(0, 1) for name, value in batches.items()}).unsqueeze(1)
            found = found * len(found) if self.averages else found
            largest = int(found.abs().flatten(1).amax(1).argmax())
            if _same(found[largest], self._one({name: value[largest] for name, value in batches.items()})):
                return found
            self.averages = None
        return self._in_a_loop(batches)

    def _in_a_loop(self, batches: Batch) -> Tensor:
        found = [self._one({name: value[k] for name, value in batches.items()}) for k in range(len(batches["logp"]))]
        return torch.stack(found)

    def _one(self, batch: Batch) -> Tensor:
        """Return minus the gradient of the loss of one batch, ``[prompts, group, length]``."""
        leaf = batch["logp"].detach().requires_grad_()
        given = {name: value.clone() for name, value in batch.items()} | {"logp": leaf.clone()}
        with torch.enable_grad():
            loss = self.function(**given)
        for name, value in batch.items():
            if given[name]._version or not torch.equal(given[name].detach(), value):
                raise UsageError(
                    f"{self.name} changes its argument {name} in place. Compute a new tensor, as in "
                    f"`{name} = {name} - 1` instead of `{name} -= 1`."
                )
        self._check_number(loss)
        if not loss.requires_grad:
            raise UsageError(self._no_gradient)
        try:
            (gradient,) = torch.autograd.grad(loss.reshape(()), leaf, allow_unused=True)
        except Exception as error:
            why = re.split(r"\n|\. | \(", str(error))[0].rstrip(".")
            raise UsageError(
                f"The gradient of {self.name} cannot be computed ({why}). Return the loss, without backward() or "
                "autograd.grad() on it."
            ) from error
        if gradient is None:
            raise UsageError(self._no_gradient)
        return _with_nan(-gradient, loss.detach().reshape(()))

    def _check_number(self, loss: Any) -> None:
        """Raise ``UsageError`` unless a loss is a tensor with one real element."""
        if loss is None:
            raise UsageError(f"{self.name} returns nothing: end it with `return loss`.")
        if isinstance(loss, Number | np.generic):
            raise UsageError(
                f"{self.name} returns a {type(loss).__name__}, which has no gradient: return the tensor itself, "
                "without float(), .item() or .numpy()."
            )
        if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
            kind = "complex tensor" if isinstance(loss, Tensor) and loss.is_complex() else "tensor"
            came = f"a {kind} of shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise UsageError(
                f"{self.name} returns {came}, and a loss is one number: return a tensor with one real element."
            )

    @property
    def _no_gradient(self) -> str:
        return (
            f"{self.name} returns a number without a gradient: it does not depend on logp, or detach() or no_grad() "
            "cuts it off."
        )

    def _not_finite(self, rewards: Tensor) -> str:
        """Return the message for a group with these rewards, ``[group]``."""
        advice = (
            "A group of one has no other sample to compare with: give a group of 2 or more."
            if len(rewards) == 1
            else "A trainer meets such groups too: guard the division or the logarithm, as in x / (x.std() + 1e-4)."
        )
        return (
            f"{self.name} is not finite, or its gradient is not, for a group with rewards {rewards.tolist()}. {advice}"
        )


def _with_nan(gradient: Tensor, loss: Tensor) -> Tensor:
    """Return the gradient, ``[..., prompts, group, length]``; NaN if it is finite and the loss, ``[...]``, is not."""
    bad = gradient.isfinite().flatten(-3).all(-1) & ~loss.isfinite()
    return gradient.masked_fill(bad[(...,) + (None,) * 3], torch.nan)


def _same(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors are the same up to rounding; NaN is the same as NaN."""
    scale = second.nan_to_num().abs().amax()
    return torch.allclose(first, second, rtol=0, atol=float(SAME * scale), equal_nan=True)
