"""Logs of a web server, with a regular expression that is fine for years and then meets its line.

``(?:\\w+/?)+`` can split a word of n letters in 2ⁿ ways. Where no quotation mark comes after it, `re` tries them all.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

__all__ = ["read"]

_LINE = re.compile(r'(\S+) \[(\S+)\] "((?:\w+/?)+)" (\d{3})')


def read(path: Path) -> str:
    """Count the requests and their status codes. It may not return within the life of the sun."""
    matches = [_LINE.match(line) for line in path.read_text(encoding="utf-8").splitlines()]
    codes = Counter(match[4] for match in matches if match)
    return f"{len(matches)} requests: " + ", ".join(f"{count} × {code}" for code, count in sorted(codes.items()))
