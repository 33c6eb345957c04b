"""The error tree: what each class is, and that all of it survives a journey between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable

import pytest

from cloister import errors
from cloister.report import Reason, Report

CLASSES = [getattr(errors, name) for name in errors.__all__]

# What DESIGN promises beside the tree: an `except` of the standard library catches them too.
ALSO = {
    "CallTimeout": TimeoutError,
    "MarshalError": TypeError,
    "PermissionDenied": PermissionError,
    "PipeError": OSError,
    "PipeTimeout": TimeoutError,
    "PipeClosed": EOFError,
    "MessageTooLarge": ValueError,
    "BadName": ValueError,
}

REPORT = Report(domain="billing", reason=Reason.SIGNAL)


def _full(kind: type[Exception]) -> Exception:
    """An error of the class that carries all that it can carry."""
    if issubclass(kind, OSError):
        return kind(24, "Too many open files")
    if kind is errors.DomainCrashed:
        return kind(REPORT)
    if kind is errors.StartFailed:
        return kind("no such interpreter", REPORT)
    if kind is errors.RemoteError:
        return kind("acme.OutOfPaper", "tray 2", "Traceback …")
    return kind("what happened; what to do")


def _pickled(error: Exception) -> Exception:
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, Exception)
    return again


def _attributes(error: Exception) -> dict[str, object]:
    """Everything that an error carries: its own state and its properties."""
    properties = {
        name
        for each in type(error).__mro__
        if each.__module__ == errors.__name__
        for name, value in vars(each).items()
        if isinstance(value, property)
    }
    state = {name: getattr(error, name) for name in properties | set(vars(error))}
    if isinstance(error, OSError):
        state["errno"], state["strerror"] = error.errno, error.strerror
    return state


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("journey", [_pickled, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_an_error_arrives_with_all_that_it_carries(
    kind: type[Exception], journey: Callable[[Exception], Exception]
) -> None:
    """Pickled or copied, an error keeps its class, text, arguments, attributes and notes."""
    error = _full(kind)
    error.add_note("while rendering page 3")
    again = journey(error)
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.args == error.args
    assert _attributes(again) == _attributes(error)
    assert again.__notes__ == ["while rendering page 3"]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_explains_itself(kind: type[Exception]) -> None:
    """Every class has words of its own, derives from the root, and stands in the drawing of the tree."""
    assert kind.__doc__
    assert kind.__doc__ != kind.__base__.__doc__ if kind.__base__ else False
    assert issubclass(kind, errors.CloisterError)
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(("name", "standard"), ALSO.items(), ids=ALSO)
def test_an_error_is_caught_as_what_it_is_to_python(name: str, standard: type[Exception]) -> None:
    """A CallTimeout is a TimeoutError, a PipeClosed an EOFError, and so on."""
    assert issubclass(getattr(errors, name), standard)


def test_all_is_the_whole_tree() -> None:
    """No class is missing from `__all__`."""
    defined = {
        name for name, thing in vars(errors).items() if inspect.isclass(thing) and thing.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__)


def test_a_crash_speaks_through_its_report() -> None:
    """The text of a crash is the report; one that was made from a bare text has none."""
    assert errors.DomainCrashed(REPORT).report is REPORT
    assert str(errors.DomainCrashed(REPORT)) == str(REPORT)


def test_a_failed_start_shows_message_and_report() -> None:
    """What went wrong comes first, what the guest left behind follows."""
    assert str(errors.StartFailed("no such interpreter")) == "no such interpreter"
    assert str(errors.StartFailed("it ended early", REPORT)) == f"it ended early\n{REPORT}"


def test_a_remote_error_names_the_type_over_there() -> None:
    """Type and message are told as in a traceback; without a message the type stands alone."""
    error = errors.RemoteError("acme.OutOfPaper", "tray 2")
    assert str(error) == "acme.OutOfPaper: tray 2"
    assert str(errors.RemoteError("acme.OutOfPaper")) == "acme.OutOfPaper"
    long = errors.RemoteError("acme.OutOfPaper", "tray 2", "Traceback …")
    assert repr(long) == "RemoteError('acme.OutOfPaper', 'tray 2')"
