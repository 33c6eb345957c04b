"""Who waits for whom, wherever something is exclusive: the graph, and the rule that finds a deadlock. Pure.

A *resource* has so many places: a domain with `max_concurrency`, a context, a pool. A *strand* is one course of code
that runs, with all that it calls across walls (`cloister.calling.strand`); it has places, and waits for at most one
resource. Here is no lock and no clock: one thread at a time may enter. The graph of this process is in
`cloister.waits`.

**The rule.** A strand that does not wait can go on, and give back its places. One that waits can go on where a place is
free, where its wait has an end by itself, or where any strand that has a place can go on. A wait after which its strand
could not go on is a deadlock. It can only begin with a wait, so only that is looked at; and it is one for certain: no
strand of the chain can ever move.

Two kinds of waits are *doubtful*, and count only where they are asked for: `stuck` gives a suspicion then, and nothing
for certain. A wait *afar* is one in another process, which tells of it; it may be over and nobody has heard that yet.
And a strand may be *asleep*: what runs for it is coroutines, which say nothing when they begin to wait. They are looked
at, one after the other, while their loops go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator

__all__ = ["Asleep", "Has", "Resource", "WaitGraph"]

MAX_DOUBTFUL = 100
"""How many strands a chain with doubtful waits may have. Others say what is in it, so looking along it must have an
end."""


Has = Callable[[Hashable], bool]
"""Whether another process has a strand."""


class Resource:
    """Something exclusive, with its places."""

    __slots__ = ("holders", "name", "places")

    def __init__(self, name: str, places: int) -> None:
        """`name` says in an error what it is: ``domain 'a' (1 call at a time)``."""
        self.name = name
        self.places = places
        self.holders: Counter[Hashable] = Counter()
        """Who has how many of the places."""

    @property
    def full(self) -> bool:
        """Whether every place is taken."""
        return self.holders.total() >= self.places


class Asleep(Resource):
    """What the coroutines of a strand await: the answers of other strands, none of which is there."""

    __slots__ = ("futures",)

    def __init__(self, name: str = "", holders: Iterable[Hashable] = (), futures: Iterable[Hashable] = ()) -> None:
        """`futures` are what they await. Each is done once; so the same ones later mean that nothing has moved.

        Without a holder they may go on.
        """
        super().__init__(name, 1)
        self.holders.update(holders)
        self.futures = frozenset(futures)


_NOTHING: tuple[Resource | None, bool] = (None, False)


class WaitGraph:
    """Who has what, and who waits for what."""

    def __init__(self) -> None:
        self._waits: dict[Hashable, tuple[Resource, bool]] = {}
        """What each strand waits for, and whether that has an end by itself."""
        self.afar: dict[Hashable, Resource] = {}
        """What strands wait for in other processes, without an end."""
        self.loose: dict[Hashable, Counter[Has]] = {}
        """The strands for which coroutines in other processes say that they await something here, and who says whether
        it is a strand of that process: nobody knows what else they do."""
        self.steps = 0
        """At how many strands was looked so far; what coroutines await counts too."""
        self.asleep: Callable[[Hashable], Resource | None] | None = None
        """What the coroutines of a strand await; None where it has none, or they await a thread of the same strand and
        nothing else. Says it without waiting."""
        self.thread: Callable[[Hashable], Resource | None] | None = None
        """The same for what threads wait for outside of this graph."""

    @property
    def doubts(self) -> bool:
        """Whether there may be doubtful waits."""
        return bool(self.afar) or self.asleep is not None

    def hold(self, resource: Resource, strand: Hashable) -> None:
        """A strand has got a place, and waits no more."""
        self._waits.pop(strand, None)
        resource.holders[strand] += 1

    def release(self, resource: Resource, strand: Hashable) -> None:
        """A strand has given back a place."""
        resource.holders[strand] -= 1
        if resource.holders[strand] <= 0:
            del resource.holders[strand]

    def wait(self, resource: Resource, strand: Hashable, ends: bool = False) -> list[tuple[Hashable, Resource]]:
        """A strand begins to wait; `ends` where it will not wait for ever.

        Returns an empty list, or, where it would be a deadlock, the strands that can't go on with what each of them
        waits for, the new one first; then nothing has changed.
        """
        self._waits[strand] = resource, ends
        stuck = [] if ends else self.stuck(strand)
        if stuck:
            del self._waits[strand]
        return stuck

    def expect(self, resource: Resource, strand: Hashable, ends: bool = False) -> None:
        """A strand that has not begun is going to wait, whether or not that is a deadlock."""
        self._waits[strand] = resource, ends

    def leave(self, strand: Hashable) -> None:
        """A strand waits no more, and has got nothing."""
        self._waits.pop(strand, None)

    def stuck(
        self, strand: Hashable, whatever_ends: bool = False, doubtful: bool = False, threads: bool = False
    ) -> list[tuple[Hashable, Resource]]:
        """The strands that a strand waits for and that wait themselves; empty where it can go on.

        `whatever_ends`: as if no wait had an end by itself. `doubtful`: as if all doubtful waits were there; also empty
        then where there are more than `MAX_DOUBTFUL` strands. `threads`: with those of threads outside of the graph.
        """
        chain: list[tuple[Hashable, Resource]] = []
        seen = {strand}
        ahead = [strand]
        while ahead:
            current = ahead.pop()
            self.steps += 1
            resource, ends = self._waits.get(current, _NOTHING)
            if resource is None and doubtful:
                resource = self.afar.get(current)
                if resource is None and self.asleep is not None:
                    resource = self.asleep(current)
                if resource is None and threads and self.thread is not None:
                    resource = self.thread(current)
                self.steps += len(resource.futures) if isinstance(resource, Asleep) else 1
            if resource is None:
                return []  # it runs
            if (ends and not whatever_ends) or not resource.full:
                return []
            chain.append((current, resource))
            if doubtful and len(chain) > MAX_DOUBTFUL:
                return []
            for holder in resource.holders:
                if holder not in seen:
                    seen.add(holder)
                    ahead.append(holder)
        return chain

    def certain(self, chain: list[tuple[Hashable, Resource]]) -> bool:
        """Whether each strand of a chain waits for that and for nothing else.

        The coroutines of a strand may have left a thread of its own to wait, and go on. A loose one may do so over
        there; what it calls is told all the same where it would wait for nobody but itself.
        """
        if len(chain) > 1 and any(has(strand) for strand, _ in chain for has in list(self.loose.get(strand, ()))):
            return False
        asleep = self.asleep
        return asleep is None or all(type(what) is Asleep or asleep(strand) is None for strand, what in chain)

    def waiting(self) -> Iterator[tuple[Hashable, Resource]]:
        """Every strand that waits, with what for."""
        for strand, (resource, _) in self._waits.items():
            yield strand, resource
