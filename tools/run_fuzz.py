"""Run every fuzz/fuzz_*.py with an equal share of the inputs.

Not here: what is fed to whom. Each program takes ``--count N``, prints how many inputs it gave, and ends with
another code than 0 at the first input that is neither accepted nor refused with a documented error.

    .venv/bin/python tools/run_fuzz.py 1000000
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def run(count: int) -> int:
    """Share `count` inputs among the programs and return how many of them failed."""
    programs = sorted((CHECKOUT / "fuzz").glob("fuzz_*.py"))
    if not programs:
        print("nothing to feed: there is no fuzz/fuzz_*.py")
        return 1
    share = -(-count // len(programs))
    failed = []
    for program in programs:
        print(f"{program.name}: {share:,} inputs", flush=True)
        command = [sys.executable, str(program), "--count", str(share)]
        if subprocess.run(command, cwd=CHECKOUT, check=False).returncode:
            failed.append(program.name)
    verdict = f"{', '.join(failed)} found something" if failed else "each accepted, or refused as documented"
    print(f"{share * len(programs):,} inputs in total: {verdict}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(min(run(int(sys.argv[1].replace("_", "").replace(",", ""))), 1))
