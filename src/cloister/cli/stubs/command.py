"""The words of ``cloister stubs``. The class is imported and looked at in a domain of its own, never here."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import cloister
from cloister.cli.stubs.protocol import protocol

__all__ = ["add_to"]

INSPECT = "cloister.cli.stubs.inspection:inspect_class"


def add_to(commands: Any) -> None:
    """Add the sub-command to those of ``cloister``."""
    parser = commands.add_parser("stubs", help="print a Protocol for the proxies of a class, for type checkers")
    parser.add_argument("target", metavar="package.module:Class", help="the class; it is imported in a domain only")
    parser.add_argument(
        "--async", action="store_true", dest="awaited", help="for cloister.aio: its methods are awaited"
    )
    parser.add_argument(
        "--name", help="of the Protocol; that of the class unless told, with Async before it for --async"
    )
    parser.add_argument("--path", action="append", default=[], metavar="FOLDER", help="to look for modules in, first")
    parser.add_argument("--python", help="the interpreter that has the class and what it needs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the Protocol; return the exit code, 1 where the class can't be had."""
    name = options.name or ("Async" if options.awaited else "") + options.target.rpartition(":")[2].rpartition(".")[2]
    if not name.isidentifier():
        sys.stderr.write(f"cloister stubs: {name!r} is not a name for a Protocol\n")
        return 1
    setup = cloister.Setup(path=[*options.path, os.getcwd()], python=options.python)
    try:
        # What the module prints while it is imported must not stand in the Protocol.
        with cloister.Domain("stubs", setup=setup, echo=False) as domain:
            found = domain.call(INSPECT, options.target, name)
    except Exception as error:  # also whatever the module raises while it is imported
        sys.stderr.write(f"cloister stubs: {options.target}: {error}\n")
        return 1
    sys.stdout.write(protocol(found, name, options.awaited))
    return 0
