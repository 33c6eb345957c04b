"""What a domain does is the same whether it was started by exec or forked, with spares: a part of the suite, both ways.

The suite itself forks most of its guests, and without spares (`tests/guests.py`). The whole of it runs either way with
``CLOISTER_TEMPLATE=0`` and ``=1``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
WALK = "test_the_walk_through_application_domains_prints_its_golden_text"
PART = [
    f"tests/levels/test_walkthrough.py::{WALK}[process]",
    "tests/domain/test_travel.py",
    "tests/guest/test_departure.py::test_threads_end_before_exit_hooks_run[exec]",
    "tests/objects/test_arrays.py::test_nothing_is_copied_to_a_guest",
    "tests/objects/test_arrays.py::test_array_outlives_the_domains_that_read_it",
]
"""Objects and their walls, what travels with calls, the end of a guest, shared memory."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no templates here")
@pytest.mark.skipif("CLOISTER_TEMPLATE" in os.environ, reason="it was decided for the whole run")
@pytest.mark.timeout(200)
@pytest.mark.parametrize("template", ["0", "1"], ids=["exec", "fork"])
def test_a_part_of_the_suite_passes_either_way(template: str, tmp_path: Path) -> None:
    """Tests of objects, calls, arrays and ends pass unchanged where every guest is started by exec, or is forked."""
    hidden = ("PYTEST_", "COV", "CLOISTER_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment["CLOISTER_TEMPLATE"] = template
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={tmp_path}", *PART],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout
