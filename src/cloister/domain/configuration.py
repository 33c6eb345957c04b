"""The configuration of a domain: a mapping, or a file of the application, read in the creator.

The file is read when the domain is made, by the creator with the creator's rights; the guest gets values. Which parser
reads it, its ending says. Any thread may enter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from cloister.errors import StartFailed
from cloister.guest import local

__all__ = ["base_folder", "read"]


def base_folder(domain: str, given: str | os.PathLike[str] | None) -> str:
    """The application base of a domain: what was given, else the creator's. Raises StartFailed where there is none."""
    if given is not None:
        folder = os.path.abspath(given)
        if not os.path.isdir(folder):
            raise StartFailed(f"domain {domain!r}: the folder {folder!r} of Setup.base is not there")
        return folder
    if local.here().base:
        return local.here().base
    if getattr(sys, "frozen", False):
        return os.path.dirname(os.path.abspath(sys.executable))
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.dirname(os.path.abspath(program)) if program else os.getcwd()


def read(domain: str, given: Mapping[str, Any] | str | os.PathLike[str] | None, base: str) -> dict[str, Any]:
    """The configuration as values. Raises StartFailed for a file that is not there, or that does not parse."""
    if given is None:
        return dict(local.here().config)
    if isinstance(given, Mapping):
        return dict(given)
    path = os.path.join(base, given)
    ending = os.path.splitext(path)[1].lower()
    parse = _PARSERS.get(ending)
    if parse is None:
        raise StartFailed(
            f"domain {domain!r}: Setup.config names {path!r}; a configuration file ends in {', '.join(_PARSERS)}"
        )
    try:
        with open(path, "rb") as file:
            found = parse(file.read().decode("utf-8-sig"))
    except OSError as error:
        raise StartFailed(
            f"domain {domain!r}: the configuration {path!r} (Setup.config) can't be read: {error.strerror};"
            f" relative paths are resolved against the application base, {base!r}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise StartFailed(f"domain {domain!r}: the configuration {path!r} (Setup.config): {error}") from error
    if not isinstance(found, dict):
        raise StartFailed(f"domain {domain!r}: the configuration {path!r} (Setup.config) is no table at its top")
    return found


# The parsers are loaded when they are wanted: a guest seldom reads a file, and its path may have a `json` of its own.


def _toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _json(text: str) -> Any:
    import json

    return json.loads(text)


def _ini(text: str) -> dict[str, Any]:
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        return {section: dict(parser.items(section)) for section in parser.sections()}
    except configparser.Error as error:
        raise ValueError(str(error)) from error


_PARSERS: dict[str, Callable[[str], Any]] = {".toml": _toml, ".json": _json, ".ini": _ini}
