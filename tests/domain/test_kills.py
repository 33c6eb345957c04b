"""Domains that are killed at random moments, many in a row; `make soak` runs a thousand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_hundred_kills_at_random_moments_are_reported_exactly() -> None:
    """S08: 100 domains killed while idle, before ready, in a call, sending, receiving, in a nested call, submitting and
    stopping: each reason is exact, each caller gets that report; descriptors, threads and memory stay as they were."""
    command = [sys.executable, "-m", "tests.soak.kills", "100"]
    untraced = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=85, check=False, env=untraced)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 kills" in done.stdout
