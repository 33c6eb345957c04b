"""What this guest can't find, asked of its host: modules that no finder knows, names that a module lacks, resources.

The finder stands at the end of `sys.meta_path`, so it is reached only where an import is about to fail. A module of the
standard library is not asked for: which of them a platform lacks is no secret. Any thread may enter; asking is an
ordinary call of the host, on the lane of the thread that imports.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import linecache
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cloister.guest import loads
from cloister.objects import targets
from cloister.wire.messages import SERVICE

if TYPE_CHECKING:
    from types import ModuleType

    from cloister.guest.host import HostPeer

__all__ = ["ask", "find_resource", "watch_lookups"]

ask: Callable[[str, str, str], tuple[list[Any] | None, str]] | None = None
"""Asks the host for (kind, name, who asks): its answer, and what its handlers said who failed. None: nobody to ask."""

_asking = threading.local()
_answers: dict[str, Any] = {}
"""What was answered for types, so that a type is one and the same each time."""
_numbers = itertools.count(1)


def watch_lookups(peer: HostPeer) -> None:
    """Ask the host from now on. Idempotent."""
    global ask
    if ask is not None:
        return

    def ask_host(kind: str, name: str, requested_by: str) -> tuple[list[Any] | None, str]:
        answer, said = peer.call(SERVICE, "resolve", (kind, name, requested_by), None)
        return answer, said

    ask = ask_host
    targets.missing = _find_type
    sys.meta_path.append(_HostFinder())


def _ask(kind: str, name: str) -> tuple[list[Any] | None, str]:
    """Ask, unless this thread is asking already (asking may import), or the interpreter ends."""
    if ask is None or getattr(_asking, "busy", False) or sys.is_finalizing():
        return None, ""
    _asking.busy = True
    try:
        return ask(kind, name, _requester())
    finally:
        _asking.busy = False


def _requester() -> str:
    """The module whose code asks: the nearest one that is neither the import system nor cloister."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in ("importlib", "cloister", "_frozen_importlib", "runpy"):
            return str(name)
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return ""


# -- modules ---------------------------------------------------------------------------------------------------------


class _HostFinder(importlib.abc.MetaPathFinder):
    """The last finder: the host."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        first = fullname.partition(".")[0]
        if first in sys.stdlib_module_names or first == "cloister" or loads.is_missing(fullname):
            return None
        answer, said = _ask("module", fullname)
        if answer is None:
            if said:
                raise ModuleNotFoundError(
                    f"No module named {fullname!r}; a resolve handler of the host failed: {said}", name=fullname
                )
            return None
        return _spec(fullname, *answer)


def _spec(fullname: str, how: str, what: str) -> importlib.machinery.ModuleSpec:
    if how == "source":
        return importlib.machinery.ModuleSpec(fullname, _SourceText(fullname, what), origin=_origin(fullname))
    if how == "name":
        return importlib.machinery.ModuleSpec(fullname, _Other(what), origin=what)
    spec: importlib.machinery.ModuleSpec | None
    if os.path.isfile(what) and not what.endswith((".zip", ".whl", ".pyz")):
        inside = [os.path.dirname(what)] if os.path.basename(what) == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(fullname, what, submodule_search_locations=inside)
    else:
        spec = importlib.machinery.PathFinder.find_spec(fullname, [what])
    if spec is None:
        raise ModuleNotFoundError(
            f"No module named {fullname!r}; the host answered {what!r}, and it is not there", name=fullname
        )
    return spec


def _origin(fullname: str) -> str:
    return f"<cloister answer {fullname}>"


class _SourceText(importlib.abc.InspectLoader):
    """Runs source text as a module; tracebacks show it."""

    def __init__(self, fullname: str, text: str) -> None:
        self._fullname, self._text = fullname, text

    def get_source(self, fullname: str) -> str:
        return self._text

    def is_package(self, fullname: str) -> bool:
        return False

    def get_code(self, fullname: str) -> Any:
        return compile(self._text, _origin(self._fullname), "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        name = _origin(self._fullname)
        linecache.cache[name] = (len(self._text), None, self._text.splitlines(keepends=True), name)
        exec(self.get_code(self._fullname), module.__dict__)  # noqa: S102 - the host's code, which a guest may run


class _Other(importlib.abc.Loader):
    """Imports another module in the place of this one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(self._name)


# -- types and resources ---------------------------------------------------------------------------------------------


def _find_type(name: str) -> Any:
    """What ``module:name`` stands for, as the host says. Raises LookupError where it does not, with its words."""
    if name in _answers:
        return _answers[name]
    answer, said = _ask("type", name)
    if answer is None:
        raise LookupError(f"a resolve handler of the host failed: {said}" if said else "")
    how, what = answer
    if how == "name":
        found = targets.resolve(what)
    else:
        own = f"cloister_answer_{next(_numbers)}"
        spec = _spec(own, how, what)
        module = sys.modules[own] = importlib.util.module_from_spec(spec)
        assert spec.loader is not None
        spec.loader.exec_module(module)
        found = module
        for part in name.partition(":")[2].split("."):
            found = getattr(found, part, None)
        if found is None:
            raise LookupError(f"the host answered, and there is no {name.partition(':')[2]!r} in what it gave")
    return _answers.setdefault(name, found)


def find_resource(package: str, name: str) -> bytes:
    """The bytes of a file that lies in a package; where it does not, the host is asked. Raises FileNotFoundError."""
    from importlib import resources

    try:
        return resources.files(package).joinpath(name).read_bytes()
    except (OSError, ModuleNotFoundError) as error:
        answer, said = _ask("resource", f"{package}:{name}")
        if answer is None:
            more = f"; a resolve handler of the host failed: {said}" if said else ""
            raise FileNotFoundError(f"there is no resource {name!r} in the package {package!r}{more}") from error
    how, what = answer
    if how == "data":
        return bytes(what)
    with open(what, "rb") as file:
        return file.read()
