"""At which weights a network is measured: those that training begins with, or those of a file."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.objectives._images import images
from bench.objectives._protocol import Objective, Problem
from bench.records.files import replacing
from estimators import command_line_name

TRAINED = Path(__file__).with_name("trained")
"""Folder of the weights that come with this package, one file for each objective."""


def path_of(objective: Objective) -> Path | None:
    """Return the file of the weights that ``at`` names: None for "initial"; "trained", or a path."""
    at = str(vars(objective)["at"])
    if at == "initial":
        return None
    return TRAINED / f"{command_line_name(type(objective))}.pt" if at == "trained" else Path(at)


def check(objective: Objective) -> None:
    """Raise ``ValueError`` unless the weights that ``at`` names can be read, and fit; other fields must be checked."""
    if not isinstance(vars(objective)["at"], str) or not vars(objective)["at"]:
        raise ValueError(
            f"{type(objective).__name__} needs at='initial', at='trained' or the path of a file of weights "
            f"(got at={vars(objective)['at']!r})."
        )
    name, data = command_line_name(type(objective)), vars(objective)["data"]
    if vars(objective)["at"] == "trained" and data != "digits":
        raise ValueError(
            f"at=trained names weights that were trained on data=digits (got data={data}). Train your own with "
            f"`bench train -o {name}:data={data} --keep-weights`, and give their file to at."
        )
    if path_of(objective) is not None:
        objective.build()


def contents(objective: Objective) -> dict[str, str]:
    """Return what stands for ``data`` and ``at`` in the objective's identity: digests of images and weights."""
    data, path, found = str(vars(objective)["data"]), path_of(objective), dict[str, str]()
    if data != "digits":
        found["data"] = images(data).digest
    if path is not None and path.is_file():
        state = path.stat()
        found["at"] = _digest_of(path.resolve(), state.st_mtime_ns, state.st_size)
    return found


@functools.lru_cache(maxsize=64)
def _digest_of(path: Path, _changed: int, _size: int) -> str:
    return digest(_read(path))


def digest(weights: dict[str, dict[str, Tensor]]) -> str:
    """Return the identity of theta and extra: 16 hexadecimal digits."""
    hashed = hashlib.sha256()
    for part in ("theta", "extra"):
        for name, t in weights[part].items():
            hashed.update(f"{part}.{name}{list(t.shape)}".encode())
            hashed.update(t.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()[:16]


def of(problem: Problem) -> dict[str, dict[str, Tensor]]:
    """Return a problem's weights as they are saved, on the CPU."""
    return {
        part: {name: t.detach().cpu().clone() for name, t in tensors.items()}
        for part, tensors in (("theta", problem.theta), ("extra", problem.extra))
    }


def save(problem: Problem, folder: Path) -> Path:
    """Write a problem's weights into a folder, under their digest; return the file."""
    weights = of(problem)
    path = folder / f"{digest(weights)}.pt"
    with replacing(path) as temporary:
        torch.save(weights, temporary)
    return path


def restore(objective: Objective, problem: Problem) -> Problem:
    """Return the problem, at the weights that ``at`` names.

    Raises:
        ValueError: they cannot be read, or are those of another architecture.
    """
    path = path_of(objective)
    if path is None:
        return problem
    weights, mine = _read(path), of(problem)
    shapes, wanted = _shapes(weights), _shapes(mine)
    if shapes != wanted:
        different = next(name for name in {**wanted, **shapes} if shapes.get(name) != wanted.get(name))
        raise ValueError(
            f"{path} holds the weights of another architecture: {different} is {shapes.get(different, 'not there')} "
            f"there and {wanted.get(different, 'not there')} in {type(objective).__name__}. "
            "Give the parameters that it was trained with."
        )
    with torch.no_grad():
        for part, tensors in (("theta", problem.theta), ("extra", problem.extra)):
            for name, t in tensors.items():
                t.copy_(weights[part][name])
    return problem


def _shapes(weights: dict[str, dict[str, Tensor]]) -> dict[str, list[int]]:
    return {f"{part}.{name}": list(t.shape) for part in weights for name, t in weights[part].items()}


def _read(path: Path) -> dict[str, dict[str, Tensor]]:
    if not path.is_file():
        raise ValueError(
            f"There is no file of weights {str(path)!r}. Use at=initial, or make one with `bench train --keep-weights`."
        )
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a file of weights that can be read safely: {type(error).__name__}.") from None
    parts = found.values() if isinstance(found, dict) and set(found) == {"theta", "extra"} else [None]
    if not all(isinstance(part, dict) and all(isinstance(t, Tensor) for t in part.values()) for part in parts):
        raise ValueError(f"{path} holds no weights of an objective. Make them with `bench train --keep-weights`.")
    weights: dict[str, dict[str, Tensor]] = found
    return weights
