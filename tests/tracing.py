"""Domains that coverage does not look into.

Up to Python 3.11 an exception that is on its way to a thread stops every *traced* thread of its process until it has
arrived there (the interpreter looks for it at the start of each function, and starts the function anew). So where a
test cancels a call that sleeps, a traced guest answers nobody until the sleep is over. Python 3.12 has mended that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["untraced_guests"]


_AREAS = {"conformance", "aio", "docs", "examples", "integrations", "test_segments.py"}
"""Where calls that sleep are cancelled, or where `os._exit`, which coverage replaces, travels as code."""


@pytest.fixture(autouse=True)
def untraced_guests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the guests of a test run without a tracer, where a tracer would hold them up."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.version_info < (3, 12) and _AREAS & {Path(request.node.path).name, Path(request.node.path).parent.name}:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield
