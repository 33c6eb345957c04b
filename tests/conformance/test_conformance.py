"""One table of cases for every way to use a domain: `cloister.Domain`, `cloister.aio.Domain` on each kind of loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.cancellations import CASES
from tests.conformance.cases import Case
from tests.conformance.sides import SIDES, Side


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.name)
def test_conformance(side: type[Side], case: Case, tmp_path: Path) -> None:
    """Results, exceptions, streams, call-backs, nesting, cancellation at each state, ends: the same on each side."""
    side(tmp_path).run(case)
