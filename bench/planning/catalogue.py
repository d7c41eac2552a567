"""Names and facts of both catalogues, from a generated file: ``bench list``, completion and errors need no torch.

Run ``python -m bench.planning.catalogue`` to write the file again after an estimator or an objective has changed.
"""

import dataclasses
import difflib
import functools
import inspect
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_type_hints

Kind = Literal["estimator", "objective"]
KINDS: dict[str, Kind] = {"estimators": "estimator", "objectives": "objective"}
"""The keys of a spec that hold selectors, and the kind of each."""
FILE = Path(__file__).with_name("catalogue.json")
NEEDS = {
    "needs_df": "df/dx",
    "needs_relaxed_f": "relaxed f",
    "needs_bound": "bound",
    "needs_set": "set function",
    "needs_state": "state",
}
"""The needs of an estimator: declared fact -> words for people."""


@functools.cache
def catalogue(kind: Kind) -> dict[str, dict[str, Any]]:
    """Return the facts about every estimator or every objective, as ``kind`` says, by command-line name.

    The facts of ``rloo`` are a dictionary such as ``{"unbiased": True, "fields": {...}, ...}``.
    """
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))[f"{kind}s"]
    return found


@functools.cache
def aliases(kind: Kind) -> dict[str, str]:
    """Return the command-line name for each alias: ``{"reinforce": "score-function", ...}``.

    ``kind`` says whether these are names of estimators or of objectives.
    """
    return {alias: name for name, facts in catalogue(kind).items() for alias in facts["aliases"]}


def kebab(name: str) -> str:
    """Return the command-line name of a class with this name: ``MeasureValued`` -> ``measure-valued``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def canonical_name(kind: Kind, name: str) -> str | None:
    """Return the command-line name that a word stands for; None if the word is unknown.

    The word, ``name``, may be a command-line name, an alias or the name of a class, in any capitals, and with ``_`` for
    ``-``. ``kind`` says whether it stands for an estimator or an objective.
    """
    return _words(kind).get(name.lower().replace("_", "-"))


@functools.cache
def _words(kind: Kind) -> dict[str, str]:
    """Return the command-line names, by all words that stand for them."""
    classes = {facts["class"].partition(":")[2].lower(): known for known, facts in catalogue(kind).items()}
    return classes | aliases(kind) | {known: known for known in catalogue(kind)}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'rloo'?`` with the nearest known word; an empty string if no known word is near."""
    plain = {name.lower().replace("_", "-"): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("_", "-"), plain, n=1)
    return f" Did you mean {plain[near[0]]!r}?" if near else ""


def facts(kind: Kind, name: str, cls: type) -> dict[str, Any]:
    """Return the catalogue's entry for a class: a dictionary such as ``{"unbiased": True, "fields": {...}, ...}``.

    ``kind`` says whether the class is an estimator or an objective, and ``name`` is its command-line name. If a fact
    depends on fields, the entry has the fact for the defaults of these fields.
    """
    instance = cls()
    hints, meanings = get_type_hints(cls), arguments(cls)
    common = {
        "class": f"{'estimators' if kind == 'estimator' else 'bench.objectives'}:{cls.__name__}",
        "aliases": list(getattr(cls, "aliases", ())),
        "description": (cls.__doc__ or name).strip().splitlines()[0],
        "reference": instance.reference,
        "fields": {
            f.name: _field(f, hints[f.name], meanings.get(f.name, "")) for f in dataclasses.fields(cls) if f.init
        },
    }
    if kind == "estimator":
        from torch.distributions import Bernoulli

        import estimators
        from estimators import command_line_name

        families, parent = instance.families, cls.__mro__[1]
        return common | {
            "base": command_line_name(parent) if parent in estimators.catalogue().values() else None,
            "cost": cost(cls),
            "unbiased": instance.unbiased,
            "value_unbiased": instance.value_unbiased,
            "gradient_scale": instance.gradient_scale,
            "deterministic": instance.deterministic,
            "families": None if families is None else [family.__name__ for family in families],
            "reparameterized": families is None and instance.refuses(Bernoulli) is not None,
            "needs": [words for fact, words in NEEDS.items() if getattr(instance, fact)],
        }
    return common | {
        "family": instance.family.__name__,
        "dim": instance.dim,
        "differentiable": instance.differentiable,
        "relaxable": instance.relaxable,
        "bound": instance.bound,
        "has_exact": instance.has_exact,
    }


def _field(field: dataclasses.Field[Any], hint: Any, meaning: str) -> dict[str, Any]:
    """Return a field's type, default and meaning, and the words that it takes: those in quotes in the docstring."""
    words = ["true", "false"] if hint is bool else re.findall(r'"([\w-]+)"', meaning)
    return {"type": type_text(hint), "default": field.default, "meaning": meaning, "choices": words}


def arguments(cls: type) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say about each argument, without the last full stop."""
    return {name: text for base in reversed(cls.__mro__) for name, text in _own_arguments(base).items()}


def _own_arguments(cls: type) -> dict[str, str]:
    text = inspect.cleandoc(vars(cls).get("__doc__") or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    parts = re.split(r"(?m)^    (\w+): ", f"{text}\n")[1:]
    texts = (" ".join(part.split()).replace("``", "`").removesuffix(".") for part in parts[1::2])
    return dict(zip(parts[::2], texts, strict=True))


def served(facts: Mapping[str, Any]) -> list[str]:
    """Return the names of the families of q that an estimator serves; ``facts`` is its entry in the catalogue.

    The result is ``["reparameterized"]`` if the estimator serves every family with differentiable samples, and
    ``["any"]`` if it serves every family.
    """
    return facts["families"] or ["reparameterized" if facts["reparameterized"] else "any"]


def own_defaults(kind: Kind, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default of each field of a catalogue entry, by the name of the field.

    A preset is a class derived from the class of another entry. For a preset, the result has only the defaults that
    differ from those of the other entry.

    Args:
        kind: whether the entry is an estimator or an objective.
        known: the facts of the entry in the catalogue.
    """
    base = catalogue(kind)[known["base"]]["fields"] if known.get("base") else {}
    return {
        name: field["default"]
        for name, field in known["fields"].items()
        if name not in base or base[name]["default"] != field["default"]
    }


def cost(cls: type) -> str:
    """Return the cost per estimate that a class's docstring states; an empty text if it states none.

    The result is what follows "Cost:" there, up to the next full stop, semicolon or colon.
    """
    found = re.search(r"Cost: (.+?)(?=[.;:](?: |$))", " ".join((cls.__doc__ or "").split()))
    return found[1].replace("`", "") if found else ""


def type_text(hint: Any) -> str:
    """Return a type as a person writes it: ``int``, ``float | str``."""
    return hint.__name__ if isinstance(hint, type) and not getattr(hint, "__args__", None) else str(hint)


def generate() -> str:
    """Return the text of the catalogue file, generated from the classes."""
    import estimators
    from bench import objectives

    found = {
        "estimators": {name: facts("estimator", name, cls) for name, cls in estimators.catalogue().items()},
        "objectives": {name: facts("objective", name, cls) for name, cls in objectives.catalogue().items()},
    }
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(generate(), encoding="utf-8")
