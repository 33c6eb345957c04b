"""What a guest raises, as its caller here sees it."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import pytest

import cloister
from cloister.wire.registry import DEFAULT_REGISTRY


def _caught(domain: cloister.Domain, source: str) -> Exception:
    domain.exec(f"def misbehave():\n{source}")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one it is, the tests look at
        domain.eval("misbehave()")
    assert domain.call("operator:add", 1, 2) == 3
    return caught.value


@pytest.mark.parametrize(
    "source",
    ["KeyError('a', 1)", "ValueError()", "OSError(2, 'no', 'file')", "FileNotFoundError(2, 'no')",
     "ZeroDivisionError('x')", "UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad')", "AttributeError('a', name='n')"],
)  # fmt: skip
def test_built_in_exception_is_raised_as_what_it_is(domain: cloister.Domain, source: str) -> None:
    """O11: an exception of a type that both sides know arrives with that type, its arguments and its text."""
    expected = eval(source)
    error = _caught(domain, f"    raise {source}")
    assert type(error) is type(expected)
    assert error.args == expected.args
    assert str(error) == str(expected)


def test_marked_exception_keeps_type_and_state(domain: cloister.Domain, copies: Any) -> None:
    """O11: an exception that both sides have imported and marked keeps its type, arguments and attributes."""
    with pytest.raises(copies.OutOfStock) as caught:
        domain.call("copies:raise_out_of_stock")
    assert (caught.value.article, caught.value.left, caught.value.args) == ("umbrella", 0, ("umbrella", 0))


def test_exception_that_only_the_host_has_marked_keeps_its_type(domain: cloister.Domain) -> None:
    """A class of exceptions of somebody else's module is known here as soon as this program marks it."""
    from json import JSONDecodeError

    with pytest.raises(cloister.RemoteError, match=r"json\.decoder\.JSONDecodeError"):
        domain.call("json:loads", "{")
    cloister.by_value(JSONDecodeError)
    try:
        with pytest.raises(JSONDecodeError) as caught:
            domain.call("json:loads", "{")
        assert (caught.value.lineno, caught.value.pos) == (1, 1)
    finally:
        DEFAULT_REGISTRY.by_type.pop(JSONDecodeError)
        DEFAULT_REGISTRY.by_name.pop("json.decoder:JSONDecodeError")


def test_traceback_begins_with_the_code_that_was_called(domain: cloister.Domain) -> None:
    """The frames of cloister in the domain are the same in every traceback, so they are left out of it."""
    error = _caught(domain, "    raise KeyError('a')")
    text = error.remote_traceback  # type: ignore[attr-defined]  # it has one, because it was rebuilt
    assert "in misbehave" in text
    assert "call_lane.py" not in text


def test_error_of_cloister_itself_keeps_its_type(domain: cloister.Domain) -> None:
    """O11: what cloister raises over there is the same error here."""
    error = _caught(domain, "    raise __import__('cloister').MarshalError('of its own')")
    assert type(error) is cloister.MarshalError


def test_unknown_exception_arrives_as_a_remote_error(domain: cloister.Domain) -> None:
    """O11: a type that is unknown here becomes a RemoteError with its name, message and traceback text."""
    error = _caught(domain, "    class Strange(Exception): pass\n    raise Strange('what', 1)")
    assert isinstance(error, cloister.RemoteError)
    assert error.type_name == "__cloister__.misbehave.<locals>.Strange"
    assert error.message == "('what', 1)"
    assert "raise Strange('what', 1)" in error.traceback_text


@pytest.mark.parametrize(
    "source", ["SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit('x')", "BaseException('base')"]
)
def test_what_could_end_a_program_arrives_as_a_remote_error(domain: cloister.Domain, source: str) -> None:
    """O11: exceptions outside of Exception end the call, never the host or the domain."""
    error = _caught(domain, f"    raise {source}")
    assert isinstance(error, cloister.RemoteError)
    assert error.type_name == source.partition("(")[0]


def test_stop_iteration_does_not_end_a_loop_here(domain: cloister.Domain) -> None:
    """O11: a StopIteration that a function over there raises can't end a loop of the caller's."""
    domain.exec("def stop(): raise StopIteration('early')")
    with pytest.raises(cloister.RemoteError, match="StopIteration"):
        [domain.eval("stop()") for _ in range(3)]


def test_traceback_shows_both_sides_with_source_lines(domain: cloister.Domain) -> None:
    """O11: the printed traceback shows the line over there, also of code that was sent as text, and the line here."""
    with pytest.raises(KeyError) as caught:
        domain.create("customers:Customers").boom()
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise KeyError("nobody")' in text
    assert "customers.py" in text
    assert "test_exceptions.py" in text
    error: Any = _caught(domain, "    first = 1\n    return first / 0")
    assert "return first / 0" in error.remote_traceback
    assert "ZeroDivisionError" in error.remote_traceback


def test_notes_causes_contexts_and_groups_cross(domain: cloister.Domain) -> None:
    """O11: notes, the chain of causes and contexts, and the members of a group arrive with the exception."""
    error: Any = _caught(
        domain,
        """
    try:
        try:
            {}['key']
        except KeyError as first:
            raise ValueError('second') from first
    except ValueError as second:
        second.add_note('a note')
        raise ExceptionGroup('some', [second, OSError(5, 'io')])
""",
    )
    assert type(error) is ExceptionGroup
    value, io = error.exceptions
    assert (type(value), type(io), value.__notes__) == (ValueError, OSError, ["a note"])
    assert type(value.__cause__) is KeyError
    error = _caught(domain, "    try: {}['key']\n    except KeyError: raise ValueError('second')")
    assert type(error.__context__) is KeyError
    assert error.__cause__ is None or error.__suppress_context__ is False


@pytest.mark.parametrize(
    "source",
    [
        "    raise RuntimeError(__import__('threading').Lock(), 'why')",
        "    class Bad(RuntimeError):\n        def __str__(self): raise OSError('no text')\n    raise Bad('why')",
        "    class Bad(RuntimeError):\n        def __reduce__(self): raise OSError('no pickle')\n    raise Bad('why')",
        "    class Bad(RuntimeError):\n        @property\n        def args(self): raise OSError\n    raise Bad('why')",
        "    class Meta(type):\n        def __getattribute__(self, name): raise OSError('no')\n"
        "    class Bad(RuntimeError, metaclass=Meta): pass\n    raise Bad('why')",
        "    error = RuntimeError('why')\n    error.__cause__ = error\n    error.self = error\n    raise error",
        "    raise RuntimeError('why', 'x' * 10_000_000)",
    ],
    ids=["without a copy", "hostile text", "hostile pickle", "hostile args", "hostile type", "its own cause", "huge"],
)
def test_exception_that_does_not_want_to_travel_hides_nothing(domain: cloister.Domain, source: str) -> None:
    """O11: an exception that can't be serialized never hides the real error, and does not end the domain."""
    error: Any = _caught(domain, source)
    assert type(error) in (RuntimeError, cloister.RemoteError)
    assert "why" in str(error) + str(error.args) + error.remote_traceback


def test_exception_of_a_call_back_passes_through_the_guest(domain: cloister.Domain) -> None:
    """O11: what a call-back raises reaches the guest, which may handle it, and comes back to the caller as itself."""

    def fail() -> None:
        raise LookupError("from the host")

    customers = domain.create("customers:Customers")
    with pytest.raises(LookupError, match="from the host"):
        customers.call(fail)
    domain.exec("def careful(function):\n    try: function()\n    except LookupError as error: return str(error)")
    assert domain.eval("careful")(fail) == "from the host"


def test_private_exception_of_the_host_reaches_the_guest_as_a_remote_error(domain: cloister.Domain) -> None:
    """O11: the other way it is the same: what the guest does not know arrives there as a RemoteError."""

    class Private(Exception):
        pass

    def fail() -> None:
        raise Private("inside")

    domain.exec("def name(function):\n    try: function()\n    except Exception as error: return type(error).__name__")
    assert domain.eval("name")(fail) == "RemoteError"


def test_what_the_caller_gets_wrong_is_an_exception_at_the_call(domain: cloister.Domain) -> None:
    """Bad input: a name that leads nowhere, or a module that does not import, says what, where and what to do."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        domain.create("no_such_module:Thing")
    with pytest.raises(ImportError, match=r"module 'customers' \(.*customers\.py\) has no 'Nobody'"):
        domain.create("customers:Nobody")
    with pytest.raises(ValueError, match=r"write 'package\.module:name'"):
        domain.create("customers")
    with pytest.raises(cloister.MarshalError, match="give a callable, or a name"):
        domain.call(5)  # type: ignore[call-overload]  # that is the mistake
    with pytest.raises(SyntaxError):
        domain.exec("this is no Python")
    with pytest.raises(TypeError, match="not callable"):
        domain.call("math:pi")
    assert domain.call("operator:add", 1, 2) == 3


def test_nothing_of_the_application_is_loaded_here(domain: cloister.Domain) -> None:
    """S49: creating by name, calling, an exception over there and `help` load nothing of the application here."""
    import pydoc

    customers = domain.create("customers:Customers")
    customers.add("Ada")
    with pytest.raises(KeyError):
        customers.boom()
    assert "Add customers" in pydoc.render_doc(customers)
    with pytest.raises(AttributeError):
        customers.nothing()
    domain.create_handle("lifetimes:Thing").unwrap().ping()
    loaded = {name.rpartition(".")[2] for name in sys.modules}
    assert not loaded & {"customers", "lifetimes"}
