"""Attach an editor to a domain: it listens for a debugger, and waits for one before it works.

Run it: python examples/debugging/debug_debugpy.py [port], then "attach" your editor to that port of this machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cloister import Domain, Setup

HERE = Path(__file__).parent


def listen(port: int) -> None:
    """Run in the domain, on its main thread, before it is ready."""
    import debugpy

    debugpy.listen(("127.0.0.1", port))
    debugpy.wait_for_client()


setup = Setup(path=[HERE / "plugins"], initializer=listen, initargs=[int(sys.argv[1]) if len(sys.argv) > 1 else 5678])
with Domain("invoices", setup=setup, start_timeout=600) as domain:
    print("rounded:", domain.call("invoice:rounded", -2.499))
