"""Where the code is that is to be inspected: a file, a folder, an archive such as a wheel, or a module by its name.

Nothing is imported: a name is looked up as the import system would, parents included, without running them. Links to
folders are not followed, and only regular files are opened. Any thread may enter.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import os
import stat
import sys
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from email.parser import HeaderParser
from typing import Final

from cloister.inspection.listing import ListedCode, ListedEntryPoint, ListedModule
from cloister.inspection.reading import MAX_SOURCE, read_module, unreadable

__all__ = ["inspect_code"]

MAX_FILES: Final = 10_000
"""Source files of one inspection; the largest packages have about 5,000."""
MAX_TOTAL: Final = 256 * 1024 * 1024
"""Bytes of all sources of one inspection."""
MAX_METADATA: Final = 1024 * 1024
"""Bytes of one file of metadata."""


def inspect_code(target: str | os.PathLike[str]) -> ListedCode:
    """List the classes, functions and entry points of some code without running any of it.

    `target` is the path of a Python file, of a folder (a package, or one with packages in it), or of a wheel or zip
    archive; or the name of a module or package, ``"acme.customers"``, as an import here would find it. A module that
    can't be read - no Python, too large, nested too deep - is listed with its `error`, and the others are listed as
    well. Raises FileNotFoundError and ModuleNotFoundError where nothing is there, ValueError where it has no Python
    source - a module that is written in C, a broken archive, more than 10,000 files - and TypeError for no path at all.
    """
    if not isinstance(target, str | os.PathLike):
        raise TypeError(f"the code to inspect is a path, or the name of a module, not {target!r}")
    name = os.fspath(target)
    if os.path.isdir(name):
        return _of_folder(name, name)
    if os.path.exists(name):
        return _of_file(name)
    if os.sep in name or not all(part.isidentifier() for part in name.split(".")):
        raise FileNotFoundError(f"there is no file, folder or archive {name!r}")
    return _of_name(name)


# -- files and folders -----------------------------------------------------------------------------------------------


def _of_file(path: str) -> ListedCode:
    if path.endswith((".py", ".pyw")):
        module = os.path.splitext(os.path.basename(path))[0]
        return ListedCode(name=path, kind="file", modules=(_read_file(module, path),))
    if _is_regular(path) and zipfile.is_zipfile(path):
        return _of_archive(path)
    raise ValueError(f"{path!r} is neither Python source nor a wheel or zip archive")


def _of_folder(folder: str, asked: str, prefix: str = "") -> ListedCode:
    """A package, or a folder that has some; `prefix` is the dotted name before it."""
    top = os.path.abspath(folder)
    package = os.path.isfile(os.path.join(top, "__init__.py"))
    root = os.path.dirname(top) if package and not prefix else top
    modules: list[ListedModule] = []
    room = _Room(asked)
    for path in _sources(top, scripts=not package):
        parts = os.path.splitext(os.path.relpath(path, root))[0].split(os.sep)
        name = _dotted(([prefix] if prefix else []) + parts)
        room.take(os.lstat(path).st_size)
        modules.append(_read_file(name, path))
    points, distribution, version = _metadata_of_folder(top)
    return ListedCode(
        name=asked,
        kind="package" if package else "folder",
        modules=_sorted(modules),
        entry_points=points,
        distribution=distribution,
        version=version,
    )


def _sources(top: str, scripts: bool) -> Iterator[str]:
    """The sources in a folder; `scripts`: also those in itself that no import can name."""
    for folder, folders, files in os.walk(top):
        folders[:] = [each for each in folders if each.isidentifier() and each != "__pycache__"]
        for file in files:
            stem, extension = os.path.splitext(file)
            if extension == ".py" and (stem.isidentifier() or (scripts and folder == top)):
                yield os.path.join(folder, file)


def _read_file(name: str, path: str) -> ListedModule:
    try:
        if not _is_regular(path):
            return unreadable(name, path, "it is not a regular file")
        with open(path, "rb") as file:
            return read_module(name, path, file.read(MAX_SOURCE + 1))
    except OSError as error:
        return unreadable(name, path, f"it can't be read: {error.strerror or error}")


def _is_regular(path: str) -> bool:
    """Whether it may be opened without waiting for anybody: a pipe or a device is never."""
    return stat.S_ISREG(os.stat(path).st_mode)


# -- names -----------------------------------------------------------------------------------------------------------


def _of_name(name: str) -> ListedCode:
    if name in sys.builtin_module_names:
        raise ValueError(f"module {name!r} is built into the interpreter; it has no Python source")
    path: list[str] | None = None
    spec = None
    parts = name.split(".")
    for at in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: at + 1]), path)
        if spec is None:
            missing = ".".join(parts[: at + 1])
            raise ModuleNotFoundError(f"no module named {missing!r} was found, and no such file", name=missing)
        path = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
        if path is None and at < len(parts) - 1:
            raise ModuleNotFoundError(f"{spec.name!r} is not a package, so there is no {name!r}", name=name)
    assert spec is not None
    if path:
        found = [_of_folder(folder, name, name) for folder in path if os.path.isdir(folder)]
        modules = [module for each in found for module in each.modules]
    elif spec.origin and spec.origin.endswith(".py"):
        modules = [_read_file(name, spec.origin)]
    else:
        raise ValueError(f"module {name!r} has no Python source; it is {spec.origin or 'built in'}")
    points, distribution, version = _metadata_of_name(parts[0])
    kind = "file" if path is None else "package"
    points = points if len(parts) == 1 else ()
    return ListedCode(
        name=name,
        kind=kind,
        modules=_sorted(modules),
        entry_points=points,
        distribution=distribution,
        version=version,
    )


# -- archives --------------------------------------------------------------------------------------------------------


def _of_archive(path: str) -> ListedCode:
    modules: list[ListedModule] = []
    points, distribution, version = _none
    room = _Room(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                parts = member.filename.split("/")
                if member.filename.endswith(".py") and ".." not in parts:
                    name = _dotted([*parts[:-1], parts[-1][:-3]])
                    where = f"{path}/{member.filename}"
                    room.take(min(member.file_size, MAX_SOURCE))
                    source = _member(archive, member, MAX_SOURCE + 1)
                    modules.append(
                        unreadable(name, where, source) if isinstance(source, str) else read_module(name, where, source)
                    )
                elif len(parts) == 2 and parts[0].endswith((".dist-info", "EGG-INFO")):
                    text = _member(archive, member, MAX_METADATA)
                    if isinstance(text, bytes) and parts[1] == "entry_points.txt":
                        points = _entry_points(text)
                    elif isinstance(text, bytes) and parts[1] in ("METADATA", "PKG-INFO"):
                        distribution, version = _name_and_version(text)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"{path!r} is a broken archive: {error}") from error
    return ListedCode(
        name=path,
        kind="archive",
        modules=_sorted(modules),
        entry_points=points,
        distribution=distribution,
        version=version,
    )


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes | str:
    """The first bytes of a member, unpacked no further than asked; or why they can't be had."""
    try:
        with archive.open(member) as file:
            return file.read(most)
    except Exception as error:  # a damaged stream fails with what its decompressor raises
        return f"it can't be unpacked: {type(error).__name__}: {error}"


# -- metadata --------------------------------------------------------------------------------------------------------

_none: Final[tuple[tuple[ListedEntryPoint, ...], str, str]] = ((), "", "")


def _metadata_of_folder(folder: str) -> tuple[tuple[ListedEntryPoint, ...], str, str]:
    """What the one distribution says that is installed or built in this folder; nothing where there are several."""
    try:
        found = [each for each in os.listdir(folder) if each.endswith((".dist-info", ".egg-info"))]
    except OSError:
        return _none
    return (
        _described(importlib.metadata.PathDistribution.at(os.path.join(folder, found[0]))) if len(found) == 1 else _none
    )


def _metadata_of_name(name: str) -> tuple[tuple[ListedEntryPoint, ...], str, str]:
    """What the distribution says that has this top module, where it has the module's name."""
    try:
        return _described(importlib.metadata.distribution(name))
    except importlib.metadata.PackageNotFoundError:
        return _none


def _described(found: importlib.metadata.Distribution) -> tuple[tuple[ListedEntryPoint, ...], str, str]:
    try:
        points = _entry_points((found.read_text("entry_points.txt") or "")[:MAX_METADATA].encode())
        metadata = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
        return (points, *_name_and_version(metadata[:MAX_METADATA].encode()))
    except (OSError, UnicodeError):
        return _none


def _entry_points(text: bytes) -> tuple[ListedEntryPoint, ...]:
    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    try:
        parser.read_string(text.decode("utf-8", "replace"))
    except ConfigError:
        return ()
    return tuple(
        ListedEntryPoint(group=group, name=name, target=target.partition("[")[0].strip())
        for group in parser.sections()
        for name, target in parser.items(group)
    )


def _name_and_version(text: bytes) -> tuple[str, str]:
    headers = HeaderParser().parsestr(text.decode("utf-8", "replace"), headersonly=True)
    return str(headers.get("Name", "")), str(headers.get("Version", ""))


# -- bounds ----------------------------------------------------------------------------------------------------------


class _Room:
    """Counts what is read, and ends an inspection that would not."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._files, self._bytes = 0, 0

    def take(self, size: int) -> None:
        self._files += 1
        self._bytes += min(size, MAX_SOURCE)
        if self._files > MAX_FILES or self._bytes > MAX_TOTAL:
            raise ValueError(
                f"{self._name!r} has more than {MAX_FILES:,} sources or {MAX_TOTAL >> 20} MiB of them; inspect a part"
            )


def _dotted(parts: list[str]) -> str:
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


def _sorted(modules: list[ListedModule]) -> tuple[ListedModule, ...]:
    return tuple(sorted(modules, key=lambda module: module.name))
