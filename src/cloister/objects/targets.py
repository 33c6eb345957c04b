"""Code goes down: how a callable of the host reaches a guest.

The target of `call`, `submit`, `map` and `create` is code. It travels by import name where the name leads back to the
same object, by value where it does not: code of ``__main__``, of a notebook, a lambda, a nested function. Values are
made with cloudpickle (`pickles`) and read only by a guest, so nothing here is reached by what a guest sends.

Bytecode does not travel between Python versions (it gives nonsense errors, or none). To a guest of another version a
function that is not importable goes as its source, if it stands by itself.

===============================================  =====================================================================
plain form                                       stands for
===============================================  =====================================================================
``["name", "module:qualname"]``                  what the guest imports under that name
``["name", "/a/file.py:qualname"]``              the same in a file, which is loaded once under a name of its own
``["object", value]``                            a proxy, or a method of one, which the rule takes home
``["partial", target, args, kwargs]``            a `functools.partial`; its arguments travel as any argument does
``["value", pickle, [major, minor]]``            a pickle, for a guest of this very version; then perhaps the list
                                                 of the buffers that were taken out of it
``["source", name, text, {alias: module}]``      a function as its source, with the modules that it uses
===============================================  =====================================================================
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import sys
import textwrap
import types
import zlib
from collections.abc import Callable
from typing import Any, Final

from cloister.errors import MarshalError
from cloister.objects import pickles
from cloister.objects.proxies import bound_method, is_proxy

__all__ = ["VERSION", "absolute", "by_name", "from_plain", "is_file", "resolve", "resolve_type", "split", "to_plain"]

VERSION: Final = (sys.version_info.major, sys.version_info.minor)
"""What this interpreter runs."""


missing: Callable[[str], Any] | None = None
"""In a guest whose host wants to be asked: finds what a name stands for that a module lacks, or raises LookupError."""


def by_name(function: Any) -> str | None:
    """``module:qualname`` where that leads back to the very object in this process, else None."""
    module, qualname = _home_of(function), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module in ("__main__", "__mp_main__"):
        return None
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    # Each look makes a new bound method, of which two are equal where they are the same method of the same class.
    if found is function or (isinstance(found, types.MethodType | types.BuiltinMethodType) and found == function):
        return f"{module}:{qualname}"
    return None


def _home_of(function: Any) -> object:
    """The name of the module in which a callable lives; what is written in C may only know its class."""
    module = getattr(function, "__module__", None)
    if module is None:
        owner = getattr(function, "__objclass__", None) or getattr(function, "__self__", None)
        module = owner.__module__ if isinstance(owner, type) else None
    return module


def to_plain(target: Any, version: tuple[int, int] = VERSION) -> list[Any]:
    """Say how a target travels to a guest that runs `version`. Raises MarshalError where it can't."""
    if type(target) is str and target in _absolute:
        return ["name", target]
    if isinstance(target, str):
        return ["name", absolute(target)]
    if is_proxy(target) or bound_method(target) is not None:
        return ["object", target]
    if not callable(target):
        raise MarshalError(f"{target!r} is not code: give a callable, or a name as 'package.module:name'")
    if type(target) is functools.partial:
        return ["partial", to_plain(target.func, version), list(target.args), target.keywords]
    name = by_name(target)
    if name is not None:
        return ["name", name]
    if version != VERSION:
        return _to_source(target, version)
    return pickled(target)


def pickled(value: Any) -> list[Any]:
    """Say how a pickle of a value travels. Raises MarshalError where there can't be one."""
    data, buffers = pickles.dump(value)
    return ["value", data, list(VERSION), buffers] if buffers else ["value", data, list(VERSION)]


def _to_source(function: Any, version: tuple[int, int]) -> list[Any]:
    where = f"to a guest of Python {version[0]}.{version[1]}"
    what = pickles.shown(function)
    if not isinstance(function, types.FunctionType) or function.__name__ == "<lambda>":
        raise MarshalError(f"{what} can't travel {where}: put it into a module that both can import, and give its name")
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise MarshalError(f"{what} can't travel {where}: its source is not there; put it into a module") from None
    if function.__closure__:
        raise MarshalError(f"{what} can't travel {where}: it uses variables of the function around it")
    modules: dict[str, str] = {}
    for name in sorted(_names_in(function.__code__)):
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType):
            modules[name] = value.__name__
        elif name in function.__globals__:
            raise MarshalError(f"{what} can't travel {where}: it uses {name!r} of its module; import that inside it")
    return ["source", function.__name__, text, modules]


def _names_in(code: types.CodeType) -> set[str]:
    """The names that a function looks up outside of itself, in the functions within it too."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
    return names


def from_plain(plain: list[Any]) -> Any:
    """Make the code here; only a guest does. Raises what an import raises, and MarshalError for another version."""
    if plain[0] == "name":
        return resolve(plain[1])
    how, *what = plain
    if how == "object":
        return what[0]
    if how == "partial":
        return functools.partial(from_plain(what[0]), *what[1], **what[2])
    if how == "value":
        data, version, *buffers = what
        if tuple(version) != VERSION:
            made = ".".join(map(str, version))
            raise MarshalError(
                f"code made by Python {made} can't run on {VERSION[0]}.{VERSION[1]}; put it into a module"
            )
        return pickles.load(data, *buffers or [[]])
    name, text, modules = what
    source_name = f"<cloister source of {name}>"
    linecache.cache[source_name] = (len(text), None, text.splitlines(keepends=True), source_name)
    namespace: dict[str, Any] = {alias: importlib.import_module(module) for alias, module in modules.items()}
    exec(compile(text, source_name, "exec"), namespace)  # noqa: S102 - running its host's code is what a guest is for
    return namespace[name]


def is_file(module: str) -> bool:
    """Whether what stands before the colon is the path of a file."""
    return module.endswith(".py") or os.sep in module or "/" in module


def split(name: str) -> tuple[str, str]:
    """The module, or the path of a file, and the name in it that the name of code says.

    Raises ValueError for one that is neither ``package.module:name`` nor ``path/to/file.py:name``.
    """
    module, colon, qualname = name.rpartition(":")
    imported = all(module.split(".")) and ":" not in module
    if all(qualname.split(".")) and not is_file(qualname) and (imported or is_file(module)):
        return module, qualname
    before, _, last = name.rpartition(".")
    perhaps = f"{before}:{last}" if last and not colon and all(before.split(".")) else "package.module:name"
    raise ValueError(f"{name!r} does not name code: write {perhaps!r}, or 'path/to/file.py:name'")


def absolute(name: str, base: str = "") -> str:
    """The name of code; the path of a file in it is made absolute, for a guest may be in another folder.

    `base` is the folder that a relative one is in; empty for the working directory.
    """
    path, colon, qualname = name.rpartition(":")
    if colon and is_file(path):
        return f"{os.path.abspath(os.path.join(base, path))}:{qualname}"
    if len(_absolute) < MOST_NOTED:
        _absolute.add(str(name))
    return name


_absolute: set[str] = set()
"""Names in which there is no file: most calls of a row name the same code."""
MOST_NOTED: Final = 1000
"""How many names are noted. A program that makes up more of them looks at each one anew."""


class _Files:
    """Finds the modules that files are loaded as, so that the import system loads each once and locks it meanwhile."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}

    def name_of(self, path: str) -> str:
        """The name of the module that a file is loaded as: one that no import statement can mean."""
        if self not in sys.meta_path:
            sys.meta_path.append(self)
        stem = os.path.splitext(os.path.basename(path))[0].replace(".", "_")
        name = f"{stem}@{zlib.crc32(os.fsencode(path)):08x}"
        self._paths[name] = path
        return name

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        file = self._paths.get(name)
        return None if file is None else importlib.util.spec_from_file_location(name, file)


_files = _Files()


def resolve(name: str) -> Any:
    """Import ``package.module:qualname``, or load ``path/to/file.py:qualname``, and return what it names.

    Raises ImportError where the module or the name in it does not exist, FileNotFoundError where the file does not,
    ValueError for a malformed name, and what the code itself raises.
    """
    known = _known.get(name)
    module_name, names = _parts_of(name) if known is None else known
    module = sys.modules.get(module_name)
    # What `import_module` looks at first, which takes ten times as long: most calls of a row name the same code.
    if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False):
        module = importlib.import_module(module_name)
    found: Any = module
    for part in names:
        try:
            found = getattr(found, part)
        except AttributeError:
            return _missing(name, module_name, ".".join(names))
    return found


def resolve_type(name: str) -> type | None:
    """As `resolve`, for a class; None where there is none of this name.

    A guest finds a by-value type that its host sent so: trust goes down, so it may import the module.
    """
    try:
        found = resolve(name)
    except (ImportError, ValueError):
        return None
    return found if isinstance(found, type) else None


_known: dict[str, tuple[str, tuple[str, ...]]] = {}
"""The module and the names of code that was resolved before, where it is not in a file."""


def _parts_of(name: str) -> tuple[str, tuple[str, ...]]:
    """The module that a name means, and the names within it. Raises ValueError as `resolve`."""
    module_name, qualname = split(name)
    names = tuple(qualname.split("."))
    if is_file(module_name):
        return _files.name_of(os.path.abspath(module_name)), names
    if len(_known) < MOST_NOTED:
        _known[name] = module_name, names
    return module_name, names


def _missing(name: str, module_name: str, qualname: str) -> Any:
    """Ask whoever may know code that is not in its module. Raises ImportError."""
    said = ""
    if missing is not None:
        try:
            return missing(name)
        except LookupError as error:
            said = f"; {error.args[0]}" if error.args[0] else ""
    where = f"module {module_name!r} ({getattr(sys.modules[module_name], '__file__', 'built-in')})"
    raise ImportError(f"{where} has no {qualname!r}{said}", name=module_name) from None
