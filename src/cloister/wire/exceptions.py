"""Exceptions: what is told of one that was raised over there, and what is made of it here.

`describe` makes plain data of an exception, in the process where it was raised; `rebuild` makes an exception of that
data, in the process that gets it. The description is a dict; every entry but ``type`` may be missing:

=============  ======================================================================================================
entry          content
=============  ======================================================================================================
type           name of the type, ``module:qualified name``
message        ``str()`` of it
args           its `args`: list; what can't be copied is replaced by its `repr`
state          other attributes that can be copied: dict
traceback      the traceback as text, with the whole chain; only of the outermost exception
notes          list of texts
cause          description of ``__cause__``
context        description of ``__context__``
suppress       true where ``__suppress_context__`` is set
group          list of descriptions: the exceptions of a group
=============  ======================================================================================================

Rules: a type is rebuilt only where the receiver's table has it, and the table holds nothing but subclasses of
`Exception`; anything else, and always what could end a program or a loop, becomes a `RemoteError`. No ``__init__`` of
Python code is run and no attribute is looked up by a name that was sent. The real error always arrives: what can't be
told of it (an object without a copy, a ``__str__`` that raises) is left out or replaced, never raised.

Pure; any thread may enter.
"""

from __future__ import annotations

import builtins
import io
import traceback
from collections.abc import Mapping
from typing import Any, Final

from cloister import errors
from cloister.errors import ProtocolError, RemoteError
from cloister.report import Reason, Report
from cloister.wire.registry import DEFAULT_REGISTRY, Registry, by_value, type_name
from cloister.wire.values import Codec

__all__ = ["RemoteTraceback", "describe", "exception_table", "rebuild"]

_MESSAGE_CHARS: Final = 16 * 1024
_TRACEBACK_CHARS: Final = 64 * 1024
_NOTES: Final = 64
_DEPTH: Final = 16
"""Causes, contexts and groups within one another. A longer chain is cut there; the traceback text has more of it."""
_EXCEPTIONS: Final = 256
"""Exceptions in one description, all chains and groups together."""
_PART_BYTES: Final = 64 * 1024
"""An argument or attribute whose encoding is longer is replaced by the beginning of its `repr`."""
_NAME_CHARS: Final = 512
_PARTS: Final = 64
"""Arguments of one exception, and attributes."""

_NEVER: Final = (StopIteration, StopAsyncIteration, ProtocolError, RemoteError)
"""Those that end a loop, that end a domain, and the one that stands for all others."""
_EXTRA: Final = (
    (ImportError, ("name", "path")),
    (NameError, ("name",)),
    (AttributeError, ("name",)),
)
"""Attributes that built-in exceptions keep beside `args` and ``__dict__``."""
_OURS: Final = ("cloister.domain.", "cloister.guest.", "cloister.lanes.", "cloister.objects.")
"""The modules whose frames stand in a traceback before those of the code that was called."""

Table = Mapping[str, type[Exception]]


class RemoteTraceback(Exception):
    """Not an error, but the traceback of one as another process printed it: the ``__cause__`` of a rebuilt exception.

    It lets the usual display of an exception show where over there it was raised.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


by_value(Reason)
by_value(Report)  # two errors of a domain carry one


def exception_table(registry: Registry = DEFAULT_REGISTRY) -> dict[str, type[Exception]]:
    """Give the exceptions that keep their type: the built-in ones, cloister's, and those marked with `by_value`.

    The types are looked up once; make the table again when a module that registers some has been imported.
    """
    found: list[object] = [getattr(builtins, name) for name in vars(builtins)]
    found.append(io.UnsupportedOperation)  # the one that the file interface raises
    found += [getattr(errors, name) for name in errors.__all__]
    found += list(registry.by_type)
    return {
        type_name(kind): kind
        for kind in found
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _NEVER)
    }


def describe(error: BaseException, codec: Codec | None = None) -> dict[str, Any]:
    """Give what can be told of `error` as plain data that any codec can encode; see the table above.

    `codec` is asked what can be copied. None takes one that copies what the registry knows and refers to nothing.
    Never raises, whatever the exception's own code does.
    """
    teller = _Teller(Codec() if codec is None else codec)
    text = _traceback_text(error)
    try:
        made = teller.tell(error, 0)
        if text:
            made["traceback"] = text
        teller.codec.encode(made)
    except Exception:  # a part that copied a moment ago and does not now; what is surely told is told
        made = {"type": _cut(_name(type(error)), _NAME_CHARS), "message": _text(error), "traceback": text}
    return made


class _Teller:
    """Describes one exception with all that hang on it, each of them once."""

    __slots__ = ("_told", "codec")

    def __init__(self, codec: Codec) -> None:
        # Of the codec only what decides about copies: an object must not be handed out by an error that mentions it.
        self.codec = Codec(codec.limits, registry=codec.registry, packing=codec.packing)
        self._told: set[int] = set()

    def tell(self, error: BaseException, depth: int) -> dict[str, Any]:
        """Give the description of `error`, without its traceback."""
        self._told.add(id(error))
        kind = type(error)
        if kind is RemoteError:
            # It passes on what it was made from: a third process sees the type of the first.
            name, message = (*_args(error), "", "")[:2]
            made: dict[str, Any] = {"type": _cut(str(name), _NAME_CHARS), "message": _cut(str(message))}
        else:
            made = {"type": _cut(_name(kind), _NAME_CHARS), "message": _text(error)}
            made["args"] = [self._copyable(part) for part in _constructor_args(error)[:_PARTS]]
            state = self._state(error)
            if state:
                made["state"] = state
        notes = _plain(error, "__notes__")
        if type(notes) is list and notes:
            made["notes"] = [_cut(note) for note in notes[:_NOTES] if isinstance(note, str)]
        if issubclass(kind, BaseExceptionGroup):  # first: one that is also the context must not be missing here
            members = BaseExceptionGroup.exceptions.__get__(error)
            made["group"] = [self.tell(each, depth + 1) for each in members if self._goes_on(each, depth)]
        # Read beneath whatever the class puts over these attributes.
        cause, context = _native(error, "__cause__"), _native(error, "__context__")
        if self._goes_on(cause, depth):
            made["cause"] = self.tell(cause, depth + 1)
        if self._goes_on(context, depth):
            made["context"] = self.tell(context, depth + 1)
        if _native(error, "__suppress_context__") and type(cause) is not RemoteTraceback:
            made["suppress"] = True
        return made

    def _goes_on(self, linked: BaseException | None, depth: int) -> bool:
        return (
            linked is not None
            and type(linked) is not RemoteTraceback
            and depth < _DEPTH
            and len(self._told) < _EXCEPTIONS
            and id(linked) not in self._told
        )

    def _state(self, error: BaseException) -> dict[str, Any]:
        held = _plain(error, "__dict__")
        came = type(held) is dict and "remote_traceback" in held
        left_out = ("remote_traceback", "_cloister_gone") if came else ("remote_traceback",)
        found = dict(list(held.items())[:_PARTS]) if type(held) is dict else {}
        for kind, names in _EXTRA:
            if issubclass(type(error), kind):
                found.update((name, _plain(error, name)) for name in names if _plain(error, name) is not None)
        return {
            name: self._copyable(part)
            for name, part in found.items()
            if type(name) is str and not name.startswith("__") and name not in left_out
        }

    def _copyable(self, part: object) -> object:
        if part is None or type(part) in (float, bool):
            return part
        try:
            if len(self.codec.encode(part)) <= _PART_BYTES:
                return part
        except Exception:  # whatever it is, the error that is being told matters more
            pass
        try:
            return _cut(repr(part), 1024)
        except BaseException:  # a `repr` that exits must not hide the error either
            return f"<{_name(type(part))}>"


def rebuild(plain: object, table: Table) -> Exception:
    """Give the exception that `plain` describes, to be raised here.

    Its `remote_traceback` is the traceback as text, empty where there was none; the outermost cause that has no cause
    of its own gets it as a `RemoteTraceback`, so that printing shows it.

    Raises `ProtocolError` where `plain` is not a description.
    """
    made = _Rebuilder(table).rebuild(plain, 0)
    text = _native(made, "__dict__")["remote_traceback"]
    if text:
        last: BaseException = made
        while (link := _native(last, "__cause__") or _native(last, "__context__")) is not None:
            last = link  # it ends: a description is a tree
        suppressed = _native(last, "__suppress_context__")
        _set_native(last, "__cause__", RemoteTraceback(text))
        _set_native(last, "__suppress_context__", suppressed)
    return made


class _Rebuilder:
    """Makes one exception with all that hang on it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._made = 0

    def rebuild(self, plain: object, depth: int) -> Exception:
        self._made += 1
        if type(plain) is not dict or depth > _DEPTH or self._made > _EXCEPTIONS:
            raise ProtocolError("bad exception: no description, or too many of them within one another")
        name = _entry(plain, "type", str, "")
        message = _entry(plain, "message", str, "")
        text = _entry(plain, "traceback", str, "")
        if not 0 < len(name) <= _NAME_CHARS:
            raise ProtocolError("bad exception: it does not name its type")
        members = [self.rebuild(each, depth + 1) for each in _entry(plain, "group", list, [])]
        kind = self._table.get(name)
        made = None if kind is None else _instance(kind, message, _entry(plain, "args", list, []), members)
        if made is None:
            made = RemoteError(name.removeprefix("builtins:").replace(":", "."), message, text)
            if members:
                _native(made, "__dict__")["exceptions"] = tuple(members)  # what is left of an unknown group
        else:
            _set_state(made, _entry(plain, "state", dict, {}))
        own = _native(made, "__dict__")
        own["remote_traceback"] = text
        notes = [note for note in _entry(plain, "notes", list, []) if type(note) is str]
        if notes:
            own["__notes__"] = notes
        if "cause" in plain:
            _set_native(made, "__cause__", self.rebuild(plain["cause"], depth + 1))
        if "context" in plain:
            _set_native(made, "__context__", self.rebuild(plain["context"], depth + 1))
        _set_native(made, "__suppress_context__", _entry(plain, "suppress", bool, False))
        return made


def _instance(kind: type[Exception], message: str, args: list[Any], members: list[Exception]) -> Exception | None:
    """Make an instance without running any ``__init__`` of Python code; None where that can't be done."""
    native = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    if issubclass(kind, BaseExceptionGroup):
        if not members:
            return None
        args = [args[0] if args and type(args[0]) is str else message, members]
    try:
        made: Exception = native.__new__(kind, *args)
        if type(made) is kind or issubclass(type(made), kind):
            # The built-in initializer sets what the built-in type keeps beside `args`, such as a UnicodeError's object.
            native.__init__(made, *args)  # type: ignore[misc]  # never that of a subclass
            return made
    except Exception:  # arguments that this built-in type does not take
        pass
    if issubclass(kind, (UnicodeError, BaseExceptionGroup)):
        return None  # without its fields it can't even be printed
    try:
        made = native.__new__(kind)  # type: ignore[call-overload]  # `native` is a built-in exception, not `type`
        _set_native(made, "args", tuple(args))
    except Exception:
        return None
    return made


def _set_state(made: Exception, state: dict[Any, Any]) -> None:
    held = _native(made, "__dict__")
    native = {name: kind for kind, names in _EXTRA if isinstance(made, kind) for name in names}
    for name, part in state.items():
        if type(name) is not str or name.startswith("__"):
            raise ProtocolError("bad exception: its state has other names than attributes have")
        if name not in native:
            held[name] = part
        else:
            native[name].__dict__[name].__set__(made, part)


def _entry(plain: dict[Any, Any], name: str, kind: type, missing: Any) -> Any:
    value = plain.get(name, missing)
    if type(value) is not kind:
        raise ProtocolError(f"bad exception: its {name} is a {type(value).__name__}")
    return value


def _native(error: BaseException, name: str) -> Any:
    """Give an attribute that every exception has, beneath whatever its class puts over it."""
    return BaseException.__dict__[name].__get__(error)


def _set_native(error: BaseException, name: str, value: object) -> None:
    """Set an attribute that every exception has, beneath whatever its class puts over it."""
    BaseException.__dict__[name].__set__(error, value)


def _args(error: BaseException) -> tuple[Any, ...]:
    args: tuple[Any, ...] = _native(error, "args")
    return args


def _constructor_args(error: BaseException) -> list[object]:
    """Give what the built-in type of `error` has to be given to make it again."""
    args = _args(error)
    if issubclass(type(error), BaseExceptionGroup):
        return [_cut(BaseExceptionGroup.message.__get__(error))]
    if issubclass(type(error), OSError) and len(args) == 2:
        # The constructor takes the file names and leaves them out of `args`.
        first, second = OSError.__dict__["filename"].__get__(error), OSError.__dict__["filename2"].__get__(error)
        if first is not None:
            return [*args, first] if second is None else [*args, first, None, second]
    return list(args)


def _name(kind: type) -> str:
    try:
        return type_name(kind)
    except Exception:
        return f"unknown:{type.__dict__['__name__'].__get__(kind)}"  # beneath a metaclass


def _plain(error: BaseException, name: str) -> object:
    """Give an attribute beneath any ``__getattribute__`` of the exception's class, or None."""
    try:
        return object.__getattribute__(error, name)
    except Exception:
        return None


def _text(error: BaseException) -> str:
    try:
        return _cut(str(error))
    except BaseException as failure:  # a `__str__` that exits must not hide the error either
        return f"<its __str__ raised {type(failure).__name__}>"


def _cut(text: str, chars: int = _MESSAGE_CHARS) -> str:
    text = str.__str__(text)  # exactly a str, whatever a `__str__` returned
    return text if len(text) <= chars else f"{text[: chars - 20]}… ({len(text):,} chars)"


def _from_the_user(frames: Any) -> Any:
    """Leave out our own frames before the first one of the user's: they are the same in every traceback."""
    own = frames
    while own is not None:
        if not str(own.tb_frame.f_globals.get("__name__")).startswith(_OURS):
            return own
        own = own.tb_next
    return frames


def _traceback_text(error: BaseException) -> str:
    earlier = _plain(error, "remote_traceback")
    try:
        text = "".join(traceback.format_exception(type(error), error, _from_the_user(_native(error, "__traceback__"))))
    except BaseException as failure:  # for the same reason
        text = f"<the traceback could not be printed: {type(failure).__name__}>\n"
        if type(earlier) is str:
            text = earlier
    if len(text) > _TRACEBACK_CHARS:
        half = _TRACEBACK_CHARS // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
    return text
