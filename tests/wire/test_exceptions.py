"""Exceptions: the real type where both sides know it, everything told of it, and never a second error instead."""

from __future__ import annotations

import asyncio
import builtins
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from cloister import errors
from cloister.errors import CallTimeout, ProtocolError, RemoteError
from cloister.wire.exceptions import RemoteTraceback, describe, exception_table, rebuild
from cloister.wire.registry import Registry
from cloister.wire.values import Codec

REGISTRY = Registry()


@REGISTRY.register
class OutOfPaper(Exception):
    """An exception of an application, with a constructor that can't be guessed."""

    def __init__(self, *, tray: int) -> None:
        super().__init__(f"tray {tray} is empty")
        self.tray = tray
        self.lock = object()


class Unknown(Exception):
    """An exception that nobody registered."""


TABLE = exception_table(REGISTRY)


def there_and_back(error: BaseException) -> Exception:
    """Give what arrives of an exception."""
    codec = Codec(registry=REGISTRY)
    return rebuild(codec.decode(codec.encode(describe(error, codec))), TABLE)


def raised(action: Callable[[], object]) -> BaseException:
    """Give what an action raises."""
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


KNOWN: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("x", (1, b"y")),
    "no arguments": KeyError,
    "errno": lambda: raised(lambda: os.stat("/does/not/exist")),
    "two files": lambda: OSError(13, "no", "a", None, "b"),
    "encode": lambda: raised(lambda: "é".encode("ascii")),
    "decode": lambda: raised(lambda: b"\xff".decode()),
    "import": lambda: raised(lambda: __import__("does_not_exist")),
    "name": lambda: raised(lambda: does_not_exist),  # type: ignore[name-defined]  # noqa: F821  # that is the point
    "attribute": lambda: raised(lambda: object().x),  # type: ignore[attr-defined]  # that is the point
    "syntax": lambda: raised(lambda: compile("a b", "file", "exec")),
    "zero division": lambda: raised(lambda: 1 / 0),
    "time-out of ours": lambda: CallTimeout("too late"),
    "pipe of ours": lambda: errors.MessageTooLarge(90, "too long"),
    "application": lambda: OutOfPaper(tray=2),
    "group": lambda: ExceptionGroup("several", [ValueError(1), ExceptionGroup("more", [OutOfPaper(tray=3)])]),
    "warning": lambda: DeprecationWarning("old"),
}  # fmt: skip


@pytest.mark.parametrize("make", KNOWN.values(), ids=KNOWN)
def test_an_exception_that_both_sides_know_keeps_its_type(make: Callable[[], BaseException]) -> None:
    """O11: type, arguments, text and attributes arrive, without running a constructor."""
    error = make()
    arrived: Any = there_and_back(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert repr(arrived) == repr(error)
    for name in ("errno", "filename", "filename2", "name", "path", "tray", "lineno", "reason"):
        assert getattr(arrived, name, None) == getattr(error, name, None)


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name not in ("ProtocolError", "VersionMismatch")])
def test_every_error_of_ours_arrives(name: str) -> None:
    """O11: each error of the public tree arrives with its type and text; a RemoteError passes on what it tells of."""
    error = getattr(errors, name)("what happened")
    arrived = there_and_back(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(7), StopAsyncIteration(),
        asyncio.CancelledError(), Unknown("x"), BaseExceptionGroup("g", [KeyboardInterrupt()]),
        ProtocolError("x"), errors.VersionMismatch("x"), BaseException("x"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_could_end_the_receiver_arrives_as_a_remote_error(error: BaseException) -> None:
    """O11: what lies outside Exception, what ends loops or domains, and what is unknown never arrives as itself."""
    arrived = there_and_back(error)
    assert type(arrived) is RemoteError
    kind = type(error)
    assert arrived.type_name == f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")
    assert arrived.message == str(error)


def test_the_traceback_notes_causes_and_groups_arrive() -> None:
    """O11: printing what arrived shows the remote traceback, the notes, the chain and the members of a group."""

    def fail() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError as first:
                first.add_note("seen before")
                raise Unknown("second") from first
        except Unknown:
            group = ExceptionGroup("third", [ValueError("member")])
            group.add_note("note one")
            group.add_note("note two")
            raise group  # noqa: B904  # the implicit context is what is tested

    arrived = there_and_back(raised(fail))
    assert isinstance(arrived, ExceptionGroup)
    assert arrived.__notes__ == ["note one", "note two"]
    assert [type(each) for each in arrived.exceptions] == [ValueError]
    second = arrived.__context__
    assert type(second) is RemoteError
    assert (second.message, arrived.__cause__, arrived.__suppress_context__) == ("second", None, False)
    assert (type(second.__cause__), second.__suppress_context__) == (KeyError, True)
    assert second.__cause__ is not None
    assert second.__cause__.__notes__ == ["seen before"]
    printed = "".join(traceback.format_exception(arrived))
    assert "in fail" in printed
    assert 'raise KeyError("first")' in arrived.remote_traceback  # type: ignore[attr-defined]  # every rebuilt one has it
    assert printed.index("RemoteTraceback") < printed.index("second") < printed.index("note two")


def test_from_none_stays_from_none() -> None:
    """O11: `raise … from None` still hides the context where it arrives."""

    def fail() -> None:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None

    arrived = there_and_back(raised(fail))
    assert arrived.__suppress_context__
    assert type(arrived.__context__) is KeyError


def test_an_exception_passes_through_a_third_process_unchanged() -> None:
    """O11: what arrived can be sent on; the type name of an unknown one is still that of the first process."""

    def fail() -> None:
        raise Unknown("x") from ValueError("y")

    once = there_and_back(raised(fail))
    twice = there_and_back(raised(lambda: (_ for _ in ()).throw(once)))
    assert type(twice) is RemoteError
    assert twice.type_name == f"{__name__}.Unknown"
    assert type(twice.__cause__) is ValueError
    assert "in fail" in twice.remote_traceback  # type: ignore[attr-defined]  # every rebuilt one has it
    assert repr(pickle.loads(pickle.dumps(once))) == repr(once)


class Hostile(Exception):
    """An exception whose every piece of code fails."""

    def __init__(self) -> None:
        super().__init__(object(), self.__class__)

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    args = __notes__ = __cause__ = __context__ = property(__str__)

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class Sly(str):
    """A text that is not one."""

    def __len__(self) -> int:
        return 10**12

    def __getitem__(self, key: object) -> str:
        raise RuntimeError("no items")


class Chatty(Exception):
    """An exception whose text is of a hostile type."""

    def __str__(self) -> str:
        return Sly("text")


def test_a_hostile_exception_does_not_hide_that_it_happened() -> None:
    """O11: code of the exception that fails, or lies, is no reason not to report it."""
    error = Hostile.__new__(Hostile)
    arrived = there_and_back(error)
    assert type(arrived) is RemoteError
    assert arrived.type_name.endswith("Hostile")
    assert "RuntimeError" in arrived.message
    chatty = there_and_back(Chatty(object(), lambda: None))
    assert (type(chatty), str(chatty).endswith("text")) == (RemoteError, True)


class Fickle(Exception):
    """An exception whose text ends the program, with an argument that can be copied just once."""

    def __str__(self) -> str:
        raise SystemExit(9)

    __repr__ = __str__


class Once:
    """What can be copied just once."""

    done = False

    def __getstate__(self) -> object:
        if self.done:
            raise RuntimeError("not again")
        self.done = True
        return None

    def __repr__(self) -> str:
        raise SystemExit(9)


def test_an_exception_that_exits_or_changes_its_mind_is_reported_all_the_same() -> None:
    """O11: a `__str__` that raises SystemExit, and an argument that copies only once, leave the bare error to tell."""
    registry = Registry()
    registry.register(Once)
    plain = describe(Fickle(Once()), Codec(registry=registry))
    assert plain["type"] == f"{__name__}:Fickle"
    assert "SystemExit" in plain["message"]
    assert set(plain) == {"type", "message", "traceback"}
    assert describe(ValueError(Hostile.__new__(Hostile)))["args"] == [f"<{__name__}:Hostile>"]


def test_a_long_traceback_is_shortened_in_the_middle() -> None:
    """The beginning and the end of a traceback text are kept, the middle is counted."""
    plain = describe(ValueError("begin" + "x" * 100_000 + "end"))
    assert len(plain["traceback"]) < 70_000
    assert "characters left out" in plain["traceback"]
    assert plain["traceback"].startswith("ValueError: begin")
    assert plain["traceback"].endswith("end\n")


def test_what_can_not_be_copied_is_replaced_by_its_repr() -> None:
    """O11: an argument or attribute without a copy, or larger than is reasonable, arrives as text."""
    error = ValueError(object(), b"x" * 1_000_000, [1, (2,)])
    error.lock = object()  # type: ignore[attr-defined]  # an attribute of the application's
    error.good = {"a": (1,)}  # type: ignore[attr-defined]  # an attribute of the application's
    arrived: Any = there_and_back(error)
    assert arrived.args[0].startswith("<object object")
    assert len(arrived.args[1]) < 2000
    assert arrived.args[2] == [1, (2,)]
    assert arrived.lock.startswith("<object object")
    assert arrived.good == {"a": (1,)}


@pytest.mark.slow
def test_an_endless_chain_is_cut() -> None:
    """A chain of ten thousand causes, a cycle, and a huge group are told as far as is reasonable."""
    last: BaseException = ValueError(0)
    for number in range(10_000):
        error = ValueError(number)
        error.__cause__ = last
        last = error
    arrived: BaseException | None = there_and_back(last)
    depth = 0
    while arrived is not None and type(arrived) is not RemoteTraceback:
        arrived, depth = arrived.__cause__, depth + 1
    assert 10 < depth < 30
    loop = ValueError("a")
    loop.__cause__ = KeyError("b")
    loop.__cause__.__cause__ = loop
    assert type(there_and_back(loop).__cause__) is KeyError
    group = there_and_back(ExceptionGroup("many", [ValueError("x" * 100_000) for _ in range(5000)]))
    assert isinstance(group, ExceptionGroup)
    assert 100 < len(group.exceptions) < 300


def test_no_constructor_of_the_application_runs_on_arrival() -> None:
    """DESIGN 5.8: an exception is rebuilt beneath its own `__init__`, `__new__` and `__setattr__`."""
    ran: list[str] = []

    class Loud(Exception):
        def __new__(cls, *args: object) -> Loud:
            ran.append("new")
            return super().__new__(cls, *args)

        def __init__(self, *args: object) -> None:
            ran.append("init")
            super().__init__(*args)

        def __setattr__(self, name: str, value: object) -> None:
            ran.append(name)

    registry = Registry()
    registry.register(Loud)
    plain = describe(Loud("x"))
    plain["state"] = {"__class__x": 1, "code": 2}
    ran.clear()
    with pytest.raises(ProtocolError):
        rebuild(plain, exception_table(registry))
    plain["state"] = {"code": 2}
    arrived = rebuild(plain, exception_table(registry))
    assert (type(arrived), arrived.args, arrived.code) == (Loud, ("x",), 2)  # type: ignore[attr-defined]  # it was sent
    assert [name for name in ran if name not in ("remote_traceback", "__notes__")] == []


BAD: dict[str, Any] = {
    "nothing": None,
    "list": [],
    "no type": {},
    "type is no text": {"type": 7},
    "long type": {"type": "x" * 1000},
    "message is no text": {"type": "x:y", "message": 1},
    "args are no list": {"type": "builtins:ValueError", "args": ()},
    "state is no dict": {"type": "builtins:ValueError", "state": []},
    "state of numbers": {"type": "builtins:ValueError", "state": {1: 2}},
    "state with a special name": {"type": "builtins:ValueError", "state": {"__class__": 2}},
    "cause is no description": {"type": "builtins:ValueError", "cause": 1},
    "group is no list": {"type": "builtins:ExceptionGroup", "group": {}},
    "suppress is a number": {"type": "builtins:ValueError", "suppress": 1},
}


@pytest.mark.parametrize("plain", BAD.values(), ids=BAD)
def test_what_is_no_description_is_refused(plain: object) -> None:
    """A malformed description is a ProtocolError."""
    with pytest.raises(ProtocolError, match="bad exception"):
        rebuild(plain, TABLE)


def test_a_description_can_not_reach_beyond_the_table() -> None:
    """Names that are no exceptions of the table, arguments that do not fit, and deep chains do no harm."""
    for name in ("builtins:eval", "builtins:SystemExit", "os:system", "builtins:type", "builtins:KeyboardInterrupt"):
        assert type(rebuild({"type": name, "args": ["x"]}, TABLE)) is RemoteError
    for name in (name for name in vars(builtins) if isinstance(getattr(builtins, name), type)):
        for args in ([], [1], ["a", "b", "c", "d", "e", "f", "g"], [None] * 5):
            made = rebuild({"type": f"builtins:{name}", "args": args, "state": {"x": 1}, "message": "m"}, TABLE)
            assert isinstance(made, Exception)
            assert repr(made)
            assert str(made) is not None
    deep: dict[str, Any] = {"type": "builtins:ValueError"}
    for _ in range(100):
        deep = {"type": "builtins:ValueError", "cause": deep}
    with pytest.raises(ProtocolError, match="too many"):
        rebuild(deep, TABLE)
