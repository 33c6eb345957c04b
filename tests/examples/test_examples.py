"""Every example is short, and does and prints what the documents show when it is run as a program.

Beside a program there may be a text of the same name: what it prints, as the documents show it, and at its end what it
logs. `printed` says how the two are compared.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.printed import difference

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SOURCES = sorted(EXAMPLES.rglob("*.py"))

# What is a program of its own. Others are run by a test of their own, or are imported by a program.
PROGRAMS = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("tutorial/step[2-9].py"), EXAMPLES / "factory" / "program.py"]

ARGUMENTS = {"program": ["isolated"], "pipeline": ["302000"]}
"""Where there are any: what makes it quick, or makes it survive."""


def run(program: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / program), *arguments],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )


@pytest.mark.parametrize("program", sorted(PROGRAMS), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_example_runs_and_prints_what_is_shown(program: Path) -> None:
    """The program ends with 0, with warnings as errors, and prints the text that lies beside it, if there is one."""
    done = run(program, *ARGUMENTS.get(program.stem, []))
    printed = done.stdout + done.stderr
    assert done.returncode == 0, f"{program} ended with {done.returncode}:\n{printed}"
    shown = program.with_suffix(".txt")
    if shown.exists():
        unlike = difference(shown.read_text(encoding="utf-8"), printed)
        assert not unlike, f"{program}:\n{unlike}\n\nprinted:\n{printed}"
    else:
        assert printed.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="a crash there is another number")
def test_a_server_without_domains_dies_of_its_plugin() -> None:
    """The first step of the tutorial is the problem: a segmentation fault of a plug-in takes the server with it."""
    done = run("tutorial/step1.py")
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == "ada 128.0\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a crash there is another number")
def test_a_program_changes_its_factory_alone_and_survives_its_modules() -> None:
    """S53: with the old factory the program dies of a module; with the other one it goes on. No other file changes."""
    before, after = run("factory/program.py"), run("factory/program.py", "isolated")
    assert before.returncode == -signal.SIGABRT
    assert after.returncode == 0, after.stderr
    assert after.stdout.splitlines()[:2] == before.stdout.splitlines()[:2]


@pytest.mark.parametrize("example", SOURCES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_example_is_read_in_a_minute(example: Path) -> None:
    """An example has fewer than 60 lines and says at the top what it shows."""
    text = example.read_text(encoding="utf-8")
    assert text.count("\n") < 60
    assert text.startswith('"""')
