"""Which module reads which file, and in what kind of domain. A table; no module of it is imported here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cloister import Setup

__all__ = ["KINDS", "Kind", "kind_of", "sorted_files"]

_MODULES = "cloister.cli.demo.modules"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file."""

    name: str
    """The name of the module that reads it, and of its domain."""
    suffixes: tuple[str, ...]
    """Ends of file names, in lower case."""
    uses: str
    """What the module is built on."""
    initializer: str = ""
    """A function of the module that runs before the domain is ready; empty: importing it is enough."""

    @property
    def module(self) -> str:
        """The full name of the module."""
        return f"{_MODULES}.{self.name}"

    @property
    def target(self) -> str:
        """The function that reads a file, as `Domain.call` takes it."""
        return f"{self.module}:read"

    def setup(self, work: Path) -> Setup:
        """The set-up of its domain. What the module leaves in its working or temporary folder lands in `work`."""
        own = {"TMPDIR": os.fspath(work), "TEMP": os.fspath(work), "TMP": os.fspath(work)}
        # Imported before the domain is ready, so that the time-out of a call is for reading, not for importing.
        first: Mapping[str, Any] = {"initializer": "importlib:import_module", "initargs": [self.module]}
        if self.initializer:
            first = {"initializer": f"{self.module}:{self.initializer}"}
        return Setup(cwd=work, extra_env=own, **first)


KINDS = (
    Kind("archives", (".zip",), "zipfile", "limit_memory"),
    Kind("backups", (".gz",), "zlib"),
    Kind("bitmaps", (".bmp",), "ctypes"),
    Kind("documents", (".pdf",), "pypdf"),
    Kind("faxes", (".tif", ".tiff"), "ctypes"),
    Kind("images", (".png", ".jpg", ".jpeg", ".gif"), "Pillow"),
    Kind("logs", (".log",), "re"),
    Kind("records", (".json",), "json"),
    Kind("tables", (".csv",), "polars"),
)

_BY_SUFFIX = MappingProxyType({suffix: kind for kind in KINDS for suffix in kind.suffixes})


def kind_of(path: Path) -> Kind | None:
    """The kind of a file by the end of its name; None where no module reads it."""
    return _BY_SUFFIX.get(path.suffix.lower())


def sorted_files(folder: Path) -> list[Path]:
    """The files of a folder in the order of their names. Raises OSError where it can't be read."""
    return sorted(path for path in folder.iterdir() if path.is_file())
