"""Streams: iterators and generators over the wall, both ways: order, laziness, ends, and peers that keep no rules."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cloister
from cloister.errors import CallTimeout, DomainCrashed, DomainUnloaded, MarshalError, ProtocolError, RemoteError
from cloister.objects.reading import Reading
from cloister.objects.streams import END, MORE, MOST_BYTES, MOST_ITEMS, RAISED, Puller, weigh
from cloister.report import Reason
from tests.modules import flows
from tests.patience import wait_until


def caught(numbers: Iterator[int]) -> list[object]:
    """Read a stream to its end, as the guest's `outcome` does."""
    return flows.outcome(numbers)


# -- from the guest --------------------------------------------------------------------------------------------------


def test_generator_of_the_guest_is_read_in_order_and_in_few_calls(
    domain: cloister.Domain, round_trips: list[str]
) -> None:
    """Every item arrives once and in its place; a thousand of them take a few dozen calls."""
    numbers = domain.call("flows:counted", 3000)
    assert list(numbers) == list(range(3000))
    assert list(numbers) == []
    assert len(round_trips) < 60
    assert iter(numbers) is numbers


def test_value_of_a_generator_is_kept(domain: cloister.Domain) -> None:
    """`yield from` over a wall gives what the generator returned."""

    def outer() -> Generator[int, None, object]:
        return (yield from domain.call("flows:counted", 3, value={"sum": 3}))

    inner = outer()
    assert [next(inner), next(inner), next(inner)] == [0, 1, 2]
    with pytest.raises(StopIteration) as stop:
        next(inner)
    assert stop.value.value == {"sum": 3}


@pytest.mark.parametrize("count", [0, 1, 16, 17, 18, 40, 2100])
def test_exception_arrives_at_its_place(domain: cloister.Domain, count: int) -> None:
    """The items before an exception come first; then it is raised, once; then the stream is at its end."""
    numbers = domain.call("flows:failing", count)
    assert list(itertools.islice(numbers, count)) == list(range(count))
    with pytest.raises(ValueError, match=f"after {count}") as error:
        next(numbers)
    assert "in counted" in str(error.value.__cause__)
    assert not isinstance(error.value.__context__, IndexError)  # how it was read is no concern of anybody
    assert next(numbers, "over") == "over"


def test_generator_runs_ahead_by_no_more_than_a_batch(domain: cloister.Domain) -> None:
    """The first items are made when they are asked for; later ones run ahead by at most as many as were read."""
    numbers = domain.call("flows:counted", 100_000)
    for read in range(1, 17):
        next(numbers)
        assert domain.call("flows:how_many_made") == read
    for read in range(17, 2000):
        next(numbers)
        if read % 97 == 0:
            assert read <= domain.call("flows:how_many_made") <= min(2 * read, read + MOST_ITEMS)
    numbers.close()


@pytest.mark.parametrize("side", ["guest", "host"])
def test_ahead_bounds_what_is_made(domain: cloister.Domain, side: str) -> None:
    """`stream(…, ahead=1)` makes each item when it is asked for, whichever side says so."""
    numbers = domain.call("flows:careful", 100, 1) if side == "guest" else domain.call("flows:counted", 100)
    numbers = numbers if side == "guest" else cloister.stream(numbers, ahead=1)
    for read in range(1, 60):
        next(numbers)
        assert domain.call("flows:how_many_made") == read
    numbers.close()
    wide = domain.call("flows:careful", 1000, 5)
    for read in range(1, 300):
        next(wide)
        assert domain.call("flows:how_many_made") <= read + 4
    wide.close()


def test_stream_says_what_it_takes() -> None:
    """`stream` makes an iterator of what is none, and says what is wrong."""
    assert list(cloister.stream([1, 2])) == [1, 2]
    assert next(cloister.stream(iter("ab"))) == "a"
    with pytest.raises(ValueError, match="1 or more, not 0"):
        cloister.stream([1], ahead=0)
    with pytest.raises(TypeError, match="not iterable"):
        cloister.stream(1)


def test_generator_is_talked_to(domain: cloister.Domain) -> None:
    """`send`, `throw` and `close` work, and a stream is read item by item from the first of them on."""
    talker = domain.call("flows:echo")
    assert flows.talk(talker) == ["ready", "a", "caught b", "stopped"]
    with pytest.raises(StopIteration):
        talker.send("more")
    other = domain.call("flows:echo")
    next(other)
    with pytest.raises(KeyError):
        other.throw(KeyError("k"))
    with pytest.raises(TypeError, match="just-started"):
        domain.call("flows:echo").send(1)


def test_what_was_read_ahead_is_never_skipped_silently(domain: cloister.Domain) -> None:
    """`send` to a generator that has run ahead is refused; `throw` drops what was read ahead, as it says."""
    numbers = domain.call("flows:counted", 1000)
    assert list(itertools.islice(numbers, 20)) == list(range(20))
    with pytest.raises(RuntimeError, match="further on than it was read here"):
        numbers.send(1)
    assert next(numbers) == 20
    with pytest.raises(ZeroDivisionError):
        numbers.throw(ZeroDivisionError())
    assert next(numbers, "over") == "over"


def test_early_close_runs_finally_on_the_thread_of_the_call(domain: cloister.Domain) -> None:
    """`close()`, `contextlib.closing` and an exception in its body end the generator at once, where calls run."""
    for leave in (None, KeyError("in the body")):
        with contextlib.suppress(KeyError), contextlib.closing(domain.call("flows:counted", 1000)) as numbers:
            next(numbers)
            if leave is not None:
                raise leave
        assert domain.call("flows:how_ended") == ["MainThread"]
        assert next(numbers, "over") == "over"


def test_dropped_generator_is_ended_on_a_thread_of_its_own(domain: cloister.Domain) -> None:
    """A loop that is left with `break` ends the generator soon, and never on the control thread."""
    for number in domain.call("flows:counted", 1000):
        if number == 20:
            break
    wait_until(lambda: domain.call("flows:how_ended") != [])
    assert domain.call("flows:how_ended") == ["cloister-releases"]


def test_generator_of_two_threads_is_python_s_error(domain: cloister.Domain) -> None:
    """A second thread that reads a generator in the middle of an item gets Python's own ValueError, at once."""
    entered, leave = threading.Event(), threading.Event()
    numbers = domain.call("flows:busy", entered.set, lambda: leave.wait(10) and None)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(next(numbers)))
    thread.start()
    assert entered.wait(10)
    with pytest.raises(ValueError, match="already executing"):
        next(numbers)
    leave.set()
    thread.join(10)
    assert found == [1]
    assert next(numbers) == 2


def test_iterator_is_shared_by_threads(domain: cloister.Domain) -> None:
    """Threads that share an iterator which is no generator get each item once."""
    numbers = domain.call("flows:shared_numbers")
    found: list[list[int]] = [[] for _ in range(4)]

    def read(mine: list[int]) -> None:
        mine.extend(numbers)

    threads = [threading.Thread(target=read, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(itertools.chain(*found)) in (list(range(10_000)), [])
    assert all(mine == sorted(mine) for mine in found)
    domain.call(lambda: __import__("flows").shared_numbers.cache_clear())


def test_time_out_of_an_item_that_never_comes(setup: cloister.Setup) -> None:
    """A generator that never yields is interrupted, and has ended then; the domain serves the next call."""
    with cloister.Domain("still", setup=setup) as domain:
        numbers = domain.call("flows:never")
        assert next(numbers) == 1
        with pytest.raises(CallTimeout), cloister.timeout(0.1):
            next(numbers)
        assert next(numbers, "over") == "over"
        assert domain.call("operator:add", 1, 2) == 3


def test_nothing_is_lost_by_a_time_out(setup: cloister.Setup) -> None:
    """What a batch had when its call was given up comes with the next one."""
    with cloister.Domain("patient", setup=setup) as domain:
        numbers = domain.create("flows:Patient")
        reading = Reading()
        reading._limit, reading._quick = 100, 100
        object.__setattr__(numbers, "_cloister_reading", reading)
        with pytest.raises(CallTimeout), cloister.timeout(0.1):
            next(numbers)
        assert list(itertools.islice(numbers, 6)) == [1, 2, 3, 5, 6, 7]


def test_dead_domain_ends_the_stream_with_its_report(setup: cloister.Setup) -> None:
    """The items that had arrived are read; then the stream raises what happened, as often as it is asked."""
    domain = cloister.Domain("dying", setup=setup)
    numbers = domain.call("flows:dying", 40)
    found: list[int] = []
    with pytest.raises(DomainCrashed) as crash:
        found.extend(iter(lambda: next(numbers), None))
    assert found == list(range(len(found)))
    assert len(found) >= 16
    assert crash.value.report.reason is Reason.SIGNAL
    with pytest.raises(DomainCrashed):
        next(numbers)


def test_unloaded_domain_ends_the_stream(setup: cloister.Setup) -> None:
    """A stream of an unloaded domain gives what had arrived, then DomainUnloaded."""
    with cloister.Domain("short", setup=setup) as domain:
        numbers = domain.call("flows:counted", 1000)
        assert list(itertools.islice(numbers, 18)) == list(range(18))
    assert next(numbers) == 18
    with pytest.raises(DomainUnloaded):
        list(numbers)


# -- from the host ---------------------------------------------------------------------------------------------------


def test_generator_of_the_host_is_read_by_the_guest(domain: cloister.Domain) -> None:
    """An argument that is a generator is a stream the other way: order, exception, value and its own methods."""
    assert domain.call("flows:outcome", flows.counted(2500)) == list(range(2500))
    assert domain.call("flows:outcome", flows.failing(30))[28:] == [28, 29, "ValueError: after 30"]
    assert domain.call("flows:talk", flows.echo()) == ["ready", "a", "caught b", "stopped"]
    assert domain.call("flows:first", flows.counted(1000), 40) == list(range(40))
    assert flows.how_many_made() <= 80
    assert domain.call("flows:first", cloister.stream(flows.counted(1000), ahead=1), 40) == list(range(40))
    assert flows.how_many_made() == 40


def test_generator_of_the_host_runs_on_the_thread_that_waits(domain: cloister.Domain) -> None:
    """The host's generator is run by the thread whose call is under way; dropped, it ends here."""
    threads: set[int] = set()

    def numbers() -> Iterator[int]:
        for number in range(100):
            threads.add(threading.get_ident())
            yield number

    assert domain.call("builtins:sum", numbers()) == 4950
    assert threads == {threading.get_ident()}
    endless = flows.counted(10**9)
    assert domain.call("flows:first", endless, 3) == [0, 1, 2]
    del endless
    wait_until(lambda: flows.how_ended() != [])


def test_item_that_can_not_travel_is_an_error_at_its_place(domain: cloister.Domain) -> None:
    """The items of a batch around one that has no way to travel all arrive, each at its place."""
    odd = object()
    items: list[Any] = [*range(30), odd, *range(30, 60), odd, odd, 60]
    expected = ["MarshalError" if item is odd else item for item in items]
    assert domain.call("flows:outcome_of_each", iter(items)) == expected


def test_stream_passes_through_the_host(domain: cloister.Domain, setup: cloister.Setup) -> None:
    """A stream of one domain is read by another, batch by batch; the host passes it on."""
    with cloister.Domain("reader", setup=setup) as reader:
        assert reader.call("flows:outcome", domain.call("flows:failing", 200))[-2:] == [199, "ValueError: after 200"]


def test_async_generator_of_a_sync_host_is_refused(domain: cloister.Domain) -> None:
    """There is no loop here to run it on, and the error says what there is."""
    with pytest.raises(MarshalError, match=r"cloister\.aio\.Domain"):
        domain.call("builtins:list", flows.ticks(3))


def test_nobody_reads_and_nothing_grows(domain: cloister.Domain) -> None:
    """A stream that is not read pulls nothing: its generator stands still."""
    numbers = domain.call("flows:counted", 10**9)
    assert list(itertools.islice(numbers, 100)) == list(range(100))
    made = domain.call("flows:how_many_made")
    for _ in range(5):
        assert domain.call("flows:how_many_made") == made
    numbers.close()


# -- the two ends, without a wall ------------------------------------------------------------------------------------


class Wall:
    """A peer whose calls go straight to a `Puller`, and may be given up before or after they were served."""

    def __init__(self, iterator: Iterator[Any], faults: Iterator[int]) -> None:
        self._iterator, self._faults, self._puller = iterator, faults, Puller()

    def call(self, target: int, name: str, args: tuple[Any, ...], kwargs: None) -> Any:
        """Serve a pull; a fault of 1 gives it up before, one of 2 after it was served."""
        fault = next(self._faults, 0)
        if fault == 1:
            raise CallTimeout("before")
        answer = self._puller.pull(self._iterator, list(args))
        if fault == 2:
            raise CallTimeout("after")
        if any(type(item) is object for item in answer[0]):
            raise MarshalError("no way")
        return [list(answer[0]), *answer[1:]]

    def rebuild(self, described: Any) -> BaseException:
        """Turn plain values into an exception."""
        return RemoteError(described["message"])

    def broken(self, error: ProtocolError, name: str) -> BaseException:
        """Give the error back."""
        return error


class Stream:
    """What a `Reading` needs of a proxy."""

    _cloister_id = 1
    _cloister_pull = "__next__"
    _cloister_generator = False

    def __init__(self, peer: Any) -> None:
        self._cloister_peer = peer
        self.reading = Reading()

    def __next__(self) -> Any:
        try:
            return self.reading.items.popleft()
        except IndexError:
            return self.reading.next(self)


class Stubborn:
    """An iterator over a script of items and errors that goes on after each of them."""

    def __init__(self, script: list[Any]) -> None:
        self._script = iter(script)

    def __iter__(self) -> Stubborn:
        return self

    def __next__(self) -> Any:
        item = next(self._script)
        if item == "error":
            raise ValueError("error")
        return item


def sequence(iterator: Any) -> list[Any]:
    """Read an iterator until its end: items, and a word for each error on the way. A call given up is tried again."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(iterator))
        except CallTimeout:
            pass
        except StopIteration:
            return found
        except (ValueError, RemoteError):
            found.append("error")
        except MarshalError:
            found.append("no way")


@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["error", "odd"]), st.just("big")), max_size=150),
    st.lists(st.integers(0, 2), max_size=60),
    st.integers(1, 40),
)
def test_any_split_gives_the_sequence_of_the_iterator(script: list[Any], faults: list[int], ahead: int) -> None:
    """However items, errors, items that can't travel and lost calls fall into batches, the reader sees the same."""
    other = {"odd": object(), "big": "x" * 300_000}
    script = [other.get(item, item) for item in script]
    stream = Stream(Wall(Stubborn(script), iter(faults)))
    stream.reading.most = ahead
    stream.reading._quick = 100
    expected = ["no way" if type(item) is object else item for item in sequence(Stubborn(script))]
    assert sequence(stream) == expected


@pytest.mark.parametrize(
    "answer",
    [
        None,
        7,
        [],
        [[], MORE, None],
        [[1], MORE, "more"],
        [[1, 2], MORE, None],
        [[], 3, None],
        [[], True, None],
        [(1,), MORE, None],
        ([1], MORE, None),
        {1: 1, 2: 2, 3: 3},
        "abc",
        [[1], "0", None],
    ],
)
def test_answer_that_is_none_is_a_protocol_error(answer: Any) -> None:
    """Too many items, an empty batch that is not the last, and what has not the shape of one, end the peer."""

    class Liar:
        def call(self, *_: Any) -> Any:
            return answer

        def broken(self, error: ProtocolError, name: str) -> BaseException:
            return error

    with pytest.raises(ProtocolError):
        next(Stream(Liar()))


def test_answer_of_another_type_is_not_looked_into() -> None:
    """What is no list is refused by its type: nothing of it is asked, which could be a call of the peer."""

    class Tempting:
        def __iter__(self) -> Any:
            raise AssertionError("it was iterated over")

        def __len__(self) -> int:
            raise AssertionError("its length was asked for")

    class Liar:
        def call(self, *_: Any) -> Any:
            return Tempting()

        def broken(self, error: ProtocolError, name: str) -> BaseException:
            return error

    with pytest.raises(ProtocolError, match=r"a list of three - items, state, more - and not a Tempting"):
        next(Stream(Liar()))


@pytest.mark.parametrize("answer", ["empty", "many", "shape", "error"])
def test_guest_that_lies_about_its_stream_is_ended(setup: cloister.Setup, answer: str) -> None:
    """A batch that breaks the rules ends the domain with the reason `bad message`; its reader does not spin."""
    domain = cloister.Domain("liar", setup=setup)
    numbers = domain.call("hostile:lying_stream", answer)
    with pytest.raises(DomainCrashed) as crash:
        list(numbers)
    assert crash.value.report.reason is Reason.BAD_MESSAGE


def test_pull_of_a_hostile_reader_is_refused() -> None:
    """A pull with wrong arguments is an error of its sender's, and asks for nothing."""
    for args in ([], [0, 1, 1], [1, 0, 1], [1, 1, False], [True, 1, 1], ["1", 1, 1], [1, 1, 1, 1]):
        with pytest.raises(ProtocolError):
            Puller().pull(iter("ab"), args)
    assert Puller().pull(iter("ab"), [5, MOST_BYTES, 1]) == [["a", "b"], END, None]
    assert Puller().pull(map(int, "x"), [5, MOST_BYTES, 7])[1] == RAISED


def test_weight_is_about_the_size() -> None:
    """What is large weighs enough to end a batch, whatever holds it; what is small does not."""
    import numpy as np

    class Holder:
        def __init__(self, held: object) -> None:
            self.held = held

    loop: list[Any] = []
    loop.append(loop)
    large = ["x" * 2_000_000, b"x" * 2_000_000, list(range(2_000_000)), np.zeros(500_000), {1: ("y" * 2_000_000,)}]
    assert all(weigh(value, MOST_BYTES) >= MOST_BYTES for value in [*large, *map(Holder, large)])
    assert all(weigh(value, MOST_BYTES) < 2000 for value in [1, "x", [1, 2], {"a": {1}}, Holder(3), np.zeros(9)])
    assert weigh(loop, MOST_BYTES) > 0


# -- async iterators of the guest ------------------------------------------------------------------------------------


def test_async_generator_of_the_guest_is_read_with_a_plain_for(domain: cloister.Domain) -> None:
    """A host without a loop reads an async generator, and an async iterable, as any other; the guest's loop runs it."""
    assert list(domain.call("flows:ticks", 200)) == list(range(200))
    assert list(domain.create("flows:AsyncIterable", 30)) == list(range(30))
    assert domain.call("flows:how_ended") == ["cloister-loop"]


def test_async_generator_is_closed_where_it_runs(domain: cloister.Domain) -> None:
    """`contextlib.closing` ends it on its loop; one that is dropped is ended there too."""
    with contextlib.closing(domain.call("flows:ticks", 200)) as numbers:
        assert list(itertools.islice(numbers, 20)) == list(range(20))
    assert domain.call("flows:how_ended") == ["cloister-loop"]
    for number in domain.call("flows:ticks", 200):
        if number == 20:
            break
    wait_until(lambda: domain.call("flows:how_ended") == ["cloister-loop"])


def test_generator_is_read_with_async_for_as_well(domain: cloister.Domain) -> None:
    """The proxies of iterators have both protocols, whichever the object over there has; so have iterables."""

    async def read() -> list[list[int]]:
        numbers = domain.call("flows:counted", 30)
        stepped = domain.call("flows:ticks", 30)
        opened = domain.create("flows:AsyncIterable", 3)
        async with contextlib.aclosing(domain.call("flows:counted", 30)) as closed:
            first = [await anext(closed)]
        return [[n async for n in numbers], [n async for n in stepped], [n async for n in opened], first]

    assert asyncio.run(read()) == [list(range(30)), list(range(30)), [0, 1, 2], [0]]


def test_stream_that_is_dropped_after_its_domain_has_gone_raises_nothing(setup: cloister.Setup) -> None:
    """Its finalizer asks what is left of the domain, which is not much, and leaves it alone."""
    domain = cloister.Domain("gone", setup=setup)
    peer = domain._life.peer
    assert next(domain.call("flows:counted", 10_000)) == 0
    domain.kill()
    del domain
    gc.collect()
    wait_until(lambda: not hasattr(peer, "lanes"))  # it has let go of what it had
    peer._hurry()
