"""What an environment is made from, and the key under which it is kept: the same things give the same environment.

The key is a hash of: the requirements in any order, the interpreter, the platform, the sources of packages, and of
each local file among the requirements its time and size. Any thread may enter.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloister.environments.pythons import base_python, is_version
from cloister.environments.sources import variables

__all__ = ["Spec", "checked", "named", "spec_of"]

FORMAT: Final = 1
"""Changes when the same things would give another environment than before."""

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Spec:
    """One environment, before it is made."""

    key: str
    """What it is called in the cache."""
    requirements: tuple[str, ...]
    python: str
    """A version, or the path of an interpreter."""
    variables: tuple[tuple[str, str], ...]
    """What uv is told beside the environment of the process."""

    def to_plain(self) -> dict[str, Any]:
        """For a message or a file."""
        return {
            "key": self.key,
            "requirements": [*self.requirements],
            "python": self.python,
            "variables": [[*pair] for pair in self.variables],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Spec:
        """What `to_plain` gave."""
        pairs = tuple((name, value) for name, value in plain["variables"])
        return cls(plain["key"], tuple(plain["requirements"]), plain["python"], pairs)


def checked(requirements: Sequence[str]) -> tuple[str, ...]:
    """The requirements, without blanks around them. Raises TypeError and ValueError for what can't be one."""
    if isinstance(requirements, str | bytes):
        raise TypeError(f"Setup.requirements is a list of texts, not the text {requirements!r}")
    for each in requirements:
        if not isinstance(each, str):
            raise TypeError(f"Setup.requirements: each is a text such as 'numpy<2', not {each!r}")
        if not each.strip() or each.strip().startswith("-") or any(mark in each for mark in "\0\n\r"):
            raise ValueError(
                f"Setup.requirements: {each!r} is no requirement; options of pip and files of requirements have no"
                " place there: indexes are taken from the configuration of uv or pip"
            )
    return tuple(each.strip() for each in requirements)


def named(requirement: str) -> str:
    """The name of the package in a requirement, as indexes write it; empty for a path or an address."""
    found = _NAME.match(requirement)
    if found is None or _local(requirement) is not None:
        return ""
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def spec_of(requirements: Sequence[str], python: str | None, environ: Mapping[str, str]) -> Spec:
    """What to make. `python` is a version or a path, None is the interpreter that runs this.

    A requirement that is the path of a file or a folder is made absolute.
    """
    wanted = tuple(_absolute(each) for each in checked(requirements))
    extra, sources = variables(environ)
    if python is None:
        python, identity = base_python(), [sys.version, sys.base_prefix]
    elif is_version(python):
        identity = [python]
    else:
        python = os.path.abspath(python)
        identity = [os.path.realpath(python), _stamp(python)]
    parts = [
        FORMAT,
        sorted(set(wanted)),
        identity,
        [sys.platform, platform.machine(), *platform.libc_ver()],
        sources,
        sorted(_stamp(path) for each in wanted if (path := _local(each)) is not None),
    ]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
    return Spec(key, wanted, python, tuple(sorted(extra.items())))


def _local(requirement: str) -> str | None:
    """The path, where a requirement is one; uv's rule: it begins like a path, or ends like a wheel or an archive."""
    text = requirement.split(";")[0].split("[")[0].strip()
    if "://" in text or " @ " in text:
        return None
    if text.startswith((".", "/", "~", os.sep)) or text.endswith((".whl", ".tar.gz", ".zip")) or text[1:3] == ":\\":
        return os.path.abspath(os.path.expanduser(text))
    return None


def _absolute(requirement: str) -> str:
    path = _local(requirement)
    if path is None:
        return requirement
    rest = requirement[len(requirement.split(";")[0].split("[")[0].rstrip()) :]
    return path + rest


def _stamp(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return f"{path} is not there"
    return f"{path} {found.st_mtime_ns} {found.st_size}"
