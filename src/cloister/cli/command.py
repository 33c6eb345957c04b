"""The command ``cloister``: reads the words and hands them to a sub-command, one package each.

It is argparse, so that the command is there with the bare package; what looks better with an extra asks for it itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cloister.cli import environments
from cloister.cli.demo import command as demo
from cloister.cli.stubs import command as stubs
from cloister.release import VERSION

__all__ = ["main"]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command with these words, None for those of the command line; return its exit code.

    Raises SystemExit(2) for words that make no sense, as argparse does, and SystemExit(0) for ``--help``.
    """
    parser = argparse.ArgumentParser(prog="cloister", description="Run code in isolated domains, as if it were here.")
    parser.add_argument("--version", action="version", version=f"cloister {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="command")
    demo.add_to(commands)
    environments.add_to(commands)
    stubs.add_to(commands)
    options = parser.parse_args(words)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
