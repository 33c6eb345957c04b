"""A program whose plug-in is covered in its domain: coverage run --rcfile coverage.ini covered.py"""

from __future__ import annotations

from pathlib import Path

from cloister import Domain, Setup

with Domain("invoices", setup=Setup(path=[Path(__file__).parent / "plugins"])) as domain:
    print("rounded:", domain.call("invoice:rounded", 2.499))
