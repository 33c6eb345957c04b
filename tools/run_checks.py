"""Run every static check, tell all that failed, and end with 1 if one did.

Not here: the rules. They are in pyproject.toml, and where they are about files and words, in tests/house.

    .venv/bin/python tools/run_checks.py [name …]     all checks, or the named ones
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

# Everything that is Python and ours.
TREES = ["src", "tests", "tools", "benchmarks", "fuzz", "examples", "docs"]

CHECKS: dict[str, list[str]] = {
    "ruff": ["ruff", "check", *TREES],
    "format": ["ruff", "format", "--check", *TREES],
    "layers": ["lint-imports", "--cache-dir", ".cache/import_linter"],
    "mypy-linux": ["mypy", "--platform", "linux", "src"],
    "mypy-darwin": ["mypy", "--platform", "darwin", "src"],
    "mypy-win32": ["mypy", "--platform", "win32", "src"],
    "mypy-tests": ["mypy", "--platform", "linux", *TREES[1:]],
    "pyright-public": ["python", "tools/check_interface.py"],
    "docs": ["sphinx-build", *"-q -E -W --keep-going -n -b html -d .cache/doctrees docs docs/_build/html".split()],
}

# pyright is fetched once, into the checkout; a newer one is no news.
ENVIRONMENT = {
    **os.environ,
    "PYRIGHT_PYTHON_CACHE_DIR": str(CHECKOUT / ".cache" / "pyright"),
    "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
}


def run(names: list[str]) -> int:
    """Run the named checks and return how many failed."""
    failed = []
    for name in names:
        program, *arguments = CHECKS[name]
        arguments = [word for word in arguments if word not in TREES or any((CHECKOUT / word).rglob("*.py"))]
        start = time.monotonic()
        done = subprocess.run(
            [str(BIN / program), *arguments],
            cwd=CHECKOUT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name:16} {verdict:6} {time.monotonic() - start:5.1f} s", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout, flush=True)
    if failed:
        print(f"{len(failed)} of {len(names)} checks failed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(CHECKS)
    if unknown:
        sys.exit(f"no check is called {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    sys.exit(min(run(sys.argv[1:] or list(CHECKS)), 1))
