"""README and documents are true: every Python block is a program that runs, and every link inside leads somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.examples.printed import difference

CHECKOUT = Path(__file__).parent.parent.parent
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])

# What a block prints stands behind it, after a line that ends in "prints:".
_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n[^\n]*\bprints:\n\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One program in a document."""

    page: Path
    line: int
    text: str
    shown: str | None
    """What it prints, where the document shows it."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


def _blocks() -> list[Block]:
    found: list[Block] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += [
            Block(page, text.count("\n", 0, each.start()) + 2, each[1], each[2]) for each in _BLOCK.finditer(text)
        ]
    return found


def _one_liners() -> list[list[str]]:
    lines = (CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line[2:]) for line in lines if line.startswith("$ python3 -m timeit")]


@pytest.mark.parametrize("block", _blocks(), ids=str)
def test_a_block_of_a_document_runs(block: Block, tmp_path: Path) -> None:
    """Each Python block of README and documents runs by itself, with warnings as errors, and prints what is shown."""
    # The block keeps its line numbers, so that a traceback leads to the document.
    program = tmp_path / f"{block.page.stem}_page.py"  # not types.py, which would stand before the module
    program.write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{block}:\n{done.stdout}{done.stderr}"
    if block.shown is not None:
        assert not (unlike := difference(block.shown, done.stdout)), f"{block}:\n{unlike}"


@pytest.mark.parametrize("command", _one_liners(), ids=lambda words: " ".join(words[:3]))
def test_a_measuring_command_of_the_readme_runs(command: list[str]) -> None:
    """The command with which a reader measures a call runs as it stands, and prints a time."""
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, timeout=20, check=True)
    assert "per loop" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    """Each relative link of a document names a file that exists."""
    targets = {target.split("#")[0] for target in _LINK.findall(page.read_text(encoding="utf-8"))}
    missing = [target for target in targets if target and "://" not in target and not (page.parent / target).exists()]
    assert not missing
