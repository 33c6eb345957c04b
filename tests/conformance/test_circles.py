"""Random graphs of waits: every circle is found, and no wait is refused that is in none."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.soak import circles

COUNT = int(os.environ.get("CLOISTER_CIRCLES", "2"))
"""Schedules of each kind. ``python -m tests.soak.circles`` runs more."""


@pytest.mark.slow
def test_random_circles_of_threads() -> None:
    """Threads that take turns, lanes and answers, nested ones too, in any order: each circle is found, nothing else."""
    ends, wrong = circles.with_threads(COUNT)
    assert wrong == []
    assert ends["went through"]


@pytest.mark.slow
def test_random_circles_of_tasks() -> None:
    """The same with tasks of a loop."""
    ends, wrong = asyncio.run(circles.with_tasks(COUNT))
    assert wrong == []
    assert ends["went through"]
