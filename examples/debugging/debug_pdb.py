"""Stop at a breakpoint in a domain. Then run pipe_pdb.py in another terminal."""

from __future__ import annotations

from pathlib import Path

from cloister import Domain, Setup

HERE = Path(__file__).parent
SETUP = Setup(path=[HERE, HERE / "plugins"], extra_env={"PYTHONBREAKPOINT": "pipe_pdb.set_trace"})

with Domain("invoices", setup=SETUP) as domain:
    print("total:", domain.call("invoice:total", [10.0, 20.0], 0.21))
