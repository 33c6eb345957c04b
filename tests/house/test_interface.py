"""The public interface: what `__all__` says is what there is, and all of it is explained."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import cloister

OTHER_PLATFORMS = {"_windows": "win32", "_darwin": "darwin", "_linux": "linux"}


def _runs_here(name: str) -> bool:
    if not name.rpartition(".")[2].isidentifier():
        return False  # a file that another program looks for by its name, such as a hook of PyInstaller
    if name.endswith("_posix"):
        return sys.platform != "win32"
    return all(sys.platform == platform for suffix, platform in OTHER_PLATFORMS.items() if name.endswith(suffix))


MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(cloister.__path__, "cloister.")
    if _runs_here(module.name) and not module.name.endswith("__main__")
)
PROJECT = tomllib.loads((Path(__file__).parent.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["cloister"]["public"]


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_is_there(name: str) -> None:
    """Each name in `__all__` exists, is there once, and the list of a package is in order."""
    module = importlib.import_module(name)
    names = list(getattr(module, "__all__", []))
    assert len(names) == len(set(names))
    assert [wanted for wanted in names if not hasattr(module, wanted)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_all_of_a_public_package_is_what_it_shows(package: str) -> None:
    """What a public package has under a public name, it lists in `__all__`; modules inside it are found by import."""
    module = _import(package)
    shown = {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(thing)
        and name != "TYPE_CHECKING"
        and getattr(thing, "__module__", package).startswith("cloister")
    }
    assert shown <= set(getattr(module, "__all__", [])), f"add them to __all__ of {package}, or begin them with _"


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_is_explained(package: str) -> None:
    """Each public class, function, method and property of the public packages has a docstring."""
    module = _import(package)
    silent = [where for where, thing in _public(module) if not inspect.getdoc(thing)]
    assert not silent, f"not explained: {silent}"


def _import(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        pytest.skip(f"{package} does not exist yet")


def _public(module: ModuleType) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name in getattr(module, "__all__", []):
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            found.append((f"{module.__name__}.{name}", thing))
        if inspect.isclass(thing) and thing.__module__.startswith("cloister"):
            found += [
                (f"{module.__name__}.{name}.{member}", value)
                for member, value in vars(thing).items()
                if not member.startswith("_")
                and (inspect.isroutine(value) or isinstance(value, property))
                # getdoc of the bound attribute also finds the words of the interface that it implements
                and not inspect.getdoc(getattr(thing, member))
            ]
    return found


def test_the_import_is_quick_and_loads_no_extra() -> None:
    """`import cloister` takes under 60 ms of CPU time; neither it nor `Domain` loads a library that is optional."""
    program = (
        "import sys, time; begun = time.process_time(); import cloister; print(time.process_time() - begun)\n"
        "extras = set('attr msgspec numpy pandas polars pyarrow pydantic rich uvloop'.split())\n"
        "cloister.Domain; found = extras & set(sys.modules); assert not found, found"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=50).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.06
