"""Check with pyright that every name of the public interface has a known type and is explained.

The public interface is what the packages in pyproject.toml, [tool.cloister] public, list in their ``__all__``, with all
public members. `pyright --verifytypes` looks at every module that is installed, so what it says about others is left
out here. Not here: that the code itself is right; that is plain pyright and mypy.

    .venv/bin/python tools/check_interface.py
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent


def public_names() -> set[str]:
    """Where everything public is defined: ``cloister.pipes.pipe.Pipe``, not ``cloister.pipes.Pipe``."""
    packages = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cloister"]["public"]
    names = set()
    for package in packages:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if inspect.ismodule(thing):
                continue  # a public package of its own, or not public
            # What has no home of its own, such as a constant or an alias, lives where it is listed.
            home = getattr(thing, "__module__", package)
            if not home.startswith("cloister"):
                names.add(f"{package}.{name}")
            else:
                names.add(f"{home}.{getattr(thing, '__qualname__', name)}")
    return names


def _complaints(symbols: list[dict[str, Any]], names: set[str]) -> Iterator[str]:
    for symbol in symbols:
        name: str = symbol["name"]
        if not any(name == public or name.startswith(f"{public}.") for public in names):
            continue
        for diagnostic in symbol["diagnostics"]:
            if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]:
                place = diagnostic.get("range", {}).get("start", {}).get("line")
                where = "" if place is None else f"{Path(diagnostic['file']).relative_to(CHECKOUT)}:{place + 1}: "
                yield f"{where}{name}: {diagnostic['message']}"


def main() -> int:
    """Print what is not known or not explained, and a last line with the count. Return 0 where there is nothing."""
    programs = Path(sys.executable).parent
    pyright = shutil.which("pyright", path=str(programs)) or "pyright"
    command = [pyright, "--verifytypes", "cloister", "--ignoreexternal", "--outputjson"]
    # For this, pyright asks the first `python3` of the path where packages are, whatever else it is told.
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    try:
        symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    except (ValueError, KeyError):
        print(f"pyright said nothing that can be read:\n{done.stdout}{done.stderr}")
        return 1
    names = public_names()
    # Constants may be known by the place where they are listed only; classes and functions by their own.
    unseen = names - {known for symbol in symbols for known in (symbol["name"], *symbol.get("alternateNames", ()))}
    complaints = sorted({f"{name}: pyright does not see it" for name in unseen} | set(_complaints(symbols, names)))
    for complaint in complaints:
        print(complaint)
    print(f"{len(names)} public names, {len(complaints)} complaints")
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
