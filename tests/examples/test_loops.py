"""The examples for anyio and trio do what the guide says."""

from __future__ import annotations

import importlib.util

import pytest

from tests.examples.test_examples import run


@pytest.mark.parametrize("library", ["anyio", "trio"])
def test_calls_of_another_library_are_gathered_and_given_up(library: str) -> None:
    """Its tasks call side by side, its cancel scope ends a call at once, and the domain goes on."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed on this Python: pip install {library}")
    done = run(f"loops/with_{library}.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5\ngiven up\n7\n"
