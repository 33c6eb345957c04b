"""A program that is run by the name of its module, or of its function."""

from __future__ import annotations

import sys


def main() -> int:
    """Give back the first argument as the exit code."""
    return int(sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
