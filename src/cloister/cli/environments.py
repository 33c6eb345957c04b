"""``cloister env``: see, make beforehand, and remove the virtual environments that domains asked for.

The environments themselves are in `cloister.environments`; here are words in and text out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from cloister.environments import store
from cloister.environments.build import build
from cloister.environments.spec import spec_of
from cloister.errors import EnvironmentFailed

__all__ = ["add_to"]

DAY_S = 86400.0


def add_to(commands: Any) -> None:
    """Add the sub-command to those of ``cloister``."""
    parser = commands.add_parser("env", help="virtual environments that domains asked for: list, build, clean")
    verbs = parser.add_subparsers(required=True, metavar="verb")
    verb = verbs.add_parser("list", help="show the environments of the cache, the one used last first")
    verb.set_defaults(run=_list)
    verb = verbs.add_parser("build", help="make one now, so that no domain has to wait for it; prints its interpreter")
    verb.add_argument("requirements", nargs="*", metavar="requirement", help="as pip knows it, for example 'numpy<2'")
    verb.add_argument("--python", metavar="VERSION", help="a version such as 3.12, or the path of an interpreter")
    verb.set_defaults(run=_build)
    verb = verbs.add_parser("clean", help="remove those that were not used for long, and what killed builds left")
    verb.add_argument("--unused-days", type=_days, default=30.0, metavar="N", help="30 unless told; 0 is all of them")
    verb.set_defaults(run=_clean)


def _days(text: str) -> float:
    days = float(text)
    if not days >= 0:
        raise argparse.ArgumentTypeError("it is a number of days from 0 up")
    return days


def _list(_options: argparse.Namespace) -> int:
    found = store.kept()
    for each in found:
        age = max(0.0, time.time() - each.used) / DAY_S
        what = " ".join(each.requirements) or ("nothing" if each.whole else "half made")
        _say(
            f"{each.key}  {_size(each.folder) / 1e6:7.1f} MB  used {age:4.1f} days ago  {each.python or '-':<8}  {what}"
        )
    _say(f"{len(found)} in {store.cache_folder()}")
    return 0


def _build(options: argparse.Namespace) -> int:
    try:
        spec = spec_of(options.requirements, options.python, os.environ)
        _say(build(spec, _tell))
    except (EnvironmentFailed, ValueError) as error:
        _tell(f"cloister env build: {error}")
        return 1
    return 0


def _clean(options: argparse.Namespace) -> int:
    removed = store.clean(options.unused_days * DAY_S)
    for each in removed:
        _say(f"removed {each.key}  {' '.join(each.requirements)}".rstrip())
    _say(f"{len(removed)} removed, {len(store.kept())} kept")
    return 0


def _size(folder: str) -> int:
    """Bytes of the files in a folder; one that is linked from elsewhere, as uv does it, counts too."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                pass
    return total


def _say(text: str) -> None:
    print(text)  # noqa: T201 - it is a command


def _tell(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - it is a command
