"""Random schedules on several threads: every call ends exactly once, with its own answer, and nothing is left."""

from __future__ import annotations

import os

import pytest

from tests.soak.schedules import Schedule

COUNT = int(os.environ.get("CLOISTER_SCHEDULES", "3"))
"""Schedules of each kind. ``python -m tests.soak.schedules`` runs more."""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 1, 2])
@pytest.mark.parametrize("kill", [False, True])
def test_every_call_ends_once_with_its_own_answer(kill: bool, limit: int | None) -> None:
    """Calls, call-backs, drops, time-outs, cancels and a kill in random order: no late answer reaches anybody else."""
    for seed in range(COUNT):
        schedule = Schedule(seed, kill=kill, limit=limit).run()
        assert schedule.wrong == [], f"seed {seed}"
        assert kill or schedule.ends["answered"]
