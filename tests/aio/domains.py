"""Domains for the tests of asyncio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cloister
from cloister import aio

__all__ = ["new"]

MODULES = Path(__file__).parent.parent / "modules"


def new(name: str = "d", **options: Any) -> aio.Domain:
    """A domain that finds the modules of the tests."""
    return aio.Domain(name, setup=cloister.Setup(path=[str(MODULES)]), **options)
