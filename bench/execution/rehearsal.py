"""A rehearsal: users' code is loaded in a worker process first, which it may end or hang without harm."""

from dataclasses import dataclass
from typing import Any

from bench.execution.pool import Pool
from bench.execution.progress import Progress, Silent
from bench.execution.worker import Crashed
from bench.planning import plugins
from bench.planning.catalogue import Kind
from bench.planning.instances import expand
from bench.planning.selectors import Named, Selector, Unloadable, UsageError
from bench.planning.spec import Spec
from bench.planning.user_code import contained

Broken = dict[tuple[str, Kind], UsageError]
"""What is wrong with selectors, by their text and kind."""


def selectors(spec: Spec) -> Named:
    """Return the selectors of a spec, each with its kind: "estimator" or "objective"."""
    found: list[tuple[Selector, Kind]] = [(each, "estimator") for each in spec.estimators]
    return [*found, *((each, "objective") for each in spec.objectives)]


@dataclass(frozen=True)
class Rehearsal:
    """Work for a worker: to load the classes that selectors name, and to read what these classes declare."""

    selectors: Named

    def record(self, progress: Progress | None = None, _pool: Any = None) -> Broken:
        """Load what the selectors name, and return an exception for each selector that is wrong.

        The key of an exception is the text of the selector and its kind, "estimator" or "objective". Before a selector
        is loaded, ``progress`` receives the selector's place in the list, from 0.
        """
        broken = Broken()
        for number, (selector, kind) in enumerate(self.selectors):
            (progress or Silent()).cell(str(number))
            try:
                for instance in expand(selector, kind):
                    _read_facts(instance)
            except UsageError as error:
                broken[str(selector), kind] = error
        return broken


def _read_facts(instance: Any) -> None:
    """Read all that an instance declares. Exceptions do not matter: only what would end or hang a process does."""
    for fact in dir(type(instance)):
        declared = getattr(type(instance), fact, None)
        if isinstance(declared, property) and not f"{declared.fget.__module__}".startswith(("bench.", "estimators.")):
            try:
                with contained():
                    getattr(instance, fact)
            except Exception:
                continue


class _Turn(Progress):
    """Remembers which selector's turn it is."""

    number = 0

    def cell(self, label: str) -> None:
        """Take in the number of the selector."""
        self.number = int(label)


def rehearse(pool: Pool, named: Named) -> Broken:
    """Load the users' classes among ``named`` in a worker of the pool, and return what is wrong with the selectors.

    ``named`` are selectors, each with its kind: "estimator" or "objective". The result has an exception for each
    selector whose class cannot be loaded, by the selector's text and its kind. If a file ends or hangs the worker, the
    exception says so, and the file must not be loaded in this process. Workers of the pool that start later first load
    those classes in ``named`` that can be loaded.
    """
    allowed = plugins.ALLOWED.get()  # if not, to load them here is refused, with the reason
    waiting, broken, pool.preload = [each for each in named if each[0].is_own and allowed], Broken(), ()
    while waiting:
        turn = _Turn()
        try:
            broken |= pool.ask(Rehearsal(waiting), turn)
            break
        except Crashed as crash:
            selector, kind = waiting.pop(turn.number)
            said = f"{selector.name} cannot be loaded: its worker process {crash.how}."
            broken[str(selector), kind] = Unloadable(said)
    pool.preload = [(selector, kind) for selector, kind in named if (str(selector), kind) not in broken]
    return broken


def require_sound(pool: Pool, spec: Spec) -> None:
    """Load the users' classes of a spec in a worker of the pool, and raise an error if one cannot be loaded.

    Raises:
        UsageError: a class cannot be loaded. The message reports all that are broken.
    """
    if broken := rehearse(pool, selectors(spec)):
        kind = Unloadable if any(isinstance(error, Unloadable) for error in broken.values()) else UsageError
        raise kind(" ".join(map(str, broken.values())))
