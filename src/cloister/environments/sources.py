"""Where packages come from: what the user has told uv, or else pip, about indexes, folders and certificates.

uv does not read pip's configuration, and most machines have one for pip. So where uv was told nothing about indexes,
by its variables or its files, it gets what pip was told, as variables: they may hold passwords, which have no place on
a command line. Then several indexes are one big index to uv, as they are to pip; else uv takes a package only from the
first index that has its name. Nothing here asks the network. Any thread may enter.
"""

from __future__ import annotations

import configparser
import os
import sys
import tomllib
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["variables"]

_UV_INDEX: Final = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_CONFIG_FILE",
    "UV_INDEX_STRATEGY",
)
"""The variables by which uv is told about indexes; they also decide what an environment is made from."""

_UV_KEYS: Final = ("index-url", "extra-index-url", "index", "find-links", "no-index")

_FROM_PIP: Final = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
}
_ALWAYS_FROM_PIP: Final = {
    "cert": "SSL_CERT_FILE",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
}
_LISTS: Final = {"UV_INDEX": " ", "UV_INSECURE_HOST": " ", "UV_FIND_LINKS": ","}
"""The variables that hold several values, and what parts them."""


def variables(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Say what uv is to be told beside `environ`, and what decides which packages there are, in words to be hashed."""
    pip = _of_pip(environ)
    said = _said_to_uv(environ)
    added = {
        variable: _value(variable, pip[key])
        for key, variable in _ALWAYS_FROM_PIP.items()
        if key in pip and variable not in environ
    }
    if not said:
        added |= {variable: _value(variable, pip[key]) for key, variable in _FROM_PIP.items() if pip.get(key)}
        if added.get("UV_NO_INDEX", "").lower() in ("0", "false", "no", "off"):
            del added["UV_NO_INDEX"]
        if "UV_INDEX" in added:
            added["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return added, said + sorted(f"{name}={added[name]}" for name in added if name in _UV_INDEX)


def _value(variable: str, text: str) -> str:
    return _LISTS[variable].join(text.split()) if variable in _LISTS else text.strip()


def _said_to_uv(environ: Mapping[str, str]) -> list[str]:
    said = [f"{name}={environ[name]}" for name in _UV_INDEX if environ.get(name)]
    for path in _folders(environ, "uv", "uv.toml"):
        try:
            with open(path, "rb") as file:
                told: dict[str, Any] = tomllib.load(file)
        except (OSError, tomllib.TOMLDecodeError):
            continue  # uv itself will say what is wrong with it
        tables = (told, told.get("pip", {}))
        said += [f"{key}={table[key]!r}" for table in tables for key in _UV_KEYS if table.get(key)]
    return said


def _of_pip(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip was told, by the names of its options: variables before files, a later file before an earlier one."""
    told: dict[str, str] = {}
    own = environ.get("PIP_CONFIG_FILE", "")
    files = [] if own == os.devnull else _folders(environ, "pip", "pip.conf")
    if own != os.devnull:
        home = environ.get("HOME") or os.path.expanduser("~")
        files += [os.path.join(home, ".pip", "pip.conf"), os.path.join(sys.prefix, "pip.conf"), own]
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            with open(path, encoding="utf-8") as file:
                parser.read_file(file)
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue  # pip would tell; here it is not pip that was asked
        for section in ("global", "install"):
            if parser.has_section(section):
                told |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            told[name[4:].lower().replace("_", "-")] = value
    return told


def _folders(environ: Mapping[str, str], program: str, file: str) -> list[str]:
    """Where the configuration of a program lies, the whole machine's first, the user's last."""
    home = environ.get("HOME") or os.path.expanduser("~")
    if sys.platform == "win32":
        places = [environ.get("PROGRAMDATA", ""), environ.get("APPDATA", "")]
        return [os.path.join(place, program, file.replace(".conf", ".ini")) for place in places if place]
    system = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    places = [os.path.join(place, program, file) for place in reversed(system)]
    places.append(f"/etc/{file}" if program == "pip" else f"/etc/{program}/{file}")
    if sys.platform == "darwin":
        places.append(os.path.join(home, "Library", "Application Support", program, file))
    places.append(os.path.join(environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), program, file))
    return places
