"""The graph of waits: a deadlock is found when it begins, and nothing else is called one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister import waits
from cloister.errors import DeadlockDetected
from cloister.waiting import Resource, WaitGraph


def test_two_strands_that_want_what_the_other_has() -> None:
    """The second wait of a cross-over is a deadlock; the first one, and one that has an end, is none."""
    graph, a, b = WaitGraph(), Resource("a", 1), Resource("b", 1)
    graph.hold(a, 1)
    graph.hold(b, 2)
    assert graph.wait(b, 1) == []
    assert graph.wait(a, 2, ends=True) == []
    graph.leave(2)
    assert graph.wait(a, 2) == [(2, a), (1, b)]
    assert dict(graph.waiting()) == {1: b}
    graph.release(b, 2)
    graph.hold(b, 1)
    assert graph.wait(a, 2) == []


def test_a_free_place_or_one_strand_that_runs_is_enough() -> None:
    """With two places, a wait is a deadlock only where both holders are stuck; a place that is free helps."""
    graph, pool, a = WaitGraph(), Resource("pool", 2), Resource("a", 1)
    graph.hold(pool, 1)
    graph.hold(pool, 2)
    graph.hold(a, 3)
    assert graph.wait(a, 1) == []
    assert graph.wait(pool, 3) == []
    graph.leave(3)
    assert graph.wait(a, 2) == []
    assert len(graph.wait(pool, 3)) == 3
    graph.release(pool, 1)
    assert graph.wait(pool, 3) == []


def test_strand_that_wants_what_it_has_itself() -> None:
    """Who asks again for the only place, where that counts as a second one, waits for itself."""
    graph, a = WaitGraph(), Resource("a", 1)
    graph.hold(a, 1)
    assert graph.wait(a, 1) == [(1, a)]


def test_chain_is_told_in_words() -> None:
    """The error of this process's graph names each strand, what it waits for, and who has that."""
    first, second = waits.Resource("domain 'a' (1 call at a time)", 1), waits.Resource("context 7", 1)
    waits.hold(first, 1)
    waits.hold(second, 2)
    with waits.waiting(second, ends=False, strand=1):
        with (
            pytest.raises(DeadlockDetected) as raised,
            waits.waiting(first, ends=False, strand=2),
        ):
            pass
        assert str(raised.value) == (
            "thread 2 would wait for itself: it wants domain 'a' (1 call at a time), held by thread 1;"
            " thread 1 waits for context 7, held by thread 2"
        )
    with waits.waiting(first, ends=False, strand=2):
        pass


STRANDS, RESOURCES = 5, 4


def can_ever_get(target: int, places: list[int], held: list[list[int]], waits_for: dict[int, int]) -> bool:
    """Play on, the way that is best for one strand: whoever can, goes on and gives back all that it has."""
    held, waits_for = [list(each) for each in held], dict(waits_for)
    while target in waits_for:
        for strand, resource in list(waits_for.items()):
            if len(held[resource]) < places[resource]:
                del waits_for[strand]
        running = [s for s in range(STRANDS) if s not in waits_for]
        nothing_moves = not any(strand in each for strand in running for each in held)
        if nothing_moves and target in waits_for and all(len(held[r]) >= places[r] for r in waits_for.values()):
            return False
        for strand in running:
            for each in held:
                while strand in each:
                    each.remove(strand)
    return True


@settings(max_examples=300)
@given(
    st.lists(st.integers(1, 3), min_size=RESOURCES, max_size=RESOURCES),
    st.lists(st.tuples(st.integers(0, STRANDS - 1), st.integers(0, RESOURCES - 1), st.integers(0, 3)), max_size=60),
)
def test_what_is_called_a_deadlock_is_one_and_every_one_is_called(
    places: list[int], steps: list[tuple[int, int, int]]
) -> None:
    """Against playing on: a wait is refused exactly where its strand could never get its place, however all go on."""
    graph = WaitGraph()
    resources = [Resource(str(index), count) for index, count in enumerate(places)]
    held: list[list[int]] = [[] for _ in places]
    waits_for: dict[int, int] = {}
    for strand, index, action in steps:
        resource = resources[index]
        if strand in waits_for:
            wanted = waits_for[strand]
            if len(held[wanted]) < places[wanted]:  # it has waited long enough
                del waits_for[strand]
                held[wanted].append(strand)
                graph.hold(resources[wanted], strand)
        elif action == 0 and strand in held[index]:
            held[index].remove(strand)
            graph.release(resource, strand)
        elif len(held[index]) < places[index]:
            held[index].append(strand)
            graph.hold(resource, strand)
        else:
            possible = can_ever_get(strand, places, held, {**waits_for, strand: index})
            stuck = graph.wait(resource, strand)
            assert bool(stuck) != possible
            if stuck:
                assert stuck[0] == (strand, resource)
            else:
                waits_for[strand] = index
    assert {strand: int(resource.name) for strand, resource in graph.waiting()} == waits_for
