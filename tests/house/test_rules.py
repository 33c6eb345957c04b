"""The rules of this house that a program can check: names, lengths, docstrings, words. Linters hold the others."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
SOURCES = sorted((CHECKOUT / "src").rglob("*.py"))
TESTS = sorted((CHECKOUT / "tests").rglob("test_*.py"))
CODE = sorted(
    path
    for tree in ("src", "tests", "tools", "benchmarks", "fuzz", "examples", "docs")
    for path in (CHECKOUT / tree).rglob("*.py")
    if "_build" not in path.parts
)
TEXTS = sorted([*CODE, *CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), CHECKOUT / "Makefile"])

# Names that say nothing about what is inside.
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "base", "core", "manager"}


def _name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def _lines(text: str) -> int:
    return text.count("\n")


def test_no_file_is_longer_than_600_lines() -> None:
    """A file of more than 600 lines holds more than one subject."""
    long = {_name(path): lines for path in CODE if (lines := _lines(path.read_text(encoding="utf-8"))) > 600}
    assert not long, f"split them by subject: {long}"


def test_every_module_says_what_is_in_it() -> None:
    """Each Python file begins with a docstring, the empty __init__ of a folder of tests aside."""
    silent = [_name(path) for path in CODE if (text := path.read_text(encoding="utf-8")) and not _docstring(text)]
    assert not silent, f"no docstring: {silent}"


def _docstring(text: str) -> str | None:
    return ast.get_docstring(ast.parse(text))


def test_every_test_states_its_claim() -> None:
    """Each test function has a docstring, in which the checks that it proves are named."""
    silent = [
        f"{_name(path)}:{node.lineno} {node.name}"
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent, "tests that claim nothing:\n" + "\n".join(silent)


def test_module_names_are_nouns_of_ours() -> None:
    """No module has an empty name like `util`, and none hides a module of the standard library."""
    stems = {_name(path): path.stem for path in SOURCES if not path.stem.startswith("__")}
    bad = [name for name, stem in stems.items() if stem in EMPTY_NAMES or stem in sys.stdlib_module_names]
    assert not bad, f"these names say nothing, or are the standard library's: {bad}"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"\b(TODO|FIXME|XXX|HACK)\b", "an open end is not left in the source"),
        (r"/(root|home/\w+|work|Users/\w+)/", "a path of one machine"),
        (r"\bissue\s+#?\d+|\bsession \d+", "the project speaks of itself alone"),
        (r"https?://[\w.]*(pypi|pythonhosted|npmjs)\.", "the registry is the reader's choice"),
        (r"\b(pyenv/versions|\.pyenv/shims)\b", "a path of one machine"),
    ],
    ids=["open-ends", "machine-paths", "numbers-of-issues", "registries", "pyenv"],
)
def test_no_text_of_ours_contains(pattern: str, why: str) -> None:
    """Source and documents are free of open ends, of paths of one machine, and of what only insiders know."""
    found = [
        f"{_name(path)}:{number}: {line.strip()}"
        for path in TEXTS
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, f"{why}:\n" + "\n".join(found)


def test_every_exception_to_a_check_gives_its_reason() -> None:
    """Behind each `noqa` and `type: ignore` stands why."""
    # Only comments count, and only those that silence something.
    silencer = re.compile(
        r"#\s*(?:noqa(?::[\s\w,]+?)?|type:\s*ignore(?:\[[\w\-, ]+\])?|pyright:\s*ignore(?:\[\w+\])?)\s*(.*)"
    )
    found = []
    for path in CODE:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = silencer.search(line)
            if match and path != Path(__file__) and len(match[1].strip(" -#:")) < 8:
                found.append(f"{_name(path)}:{number}: {line.strip()}")
    assert not found, "no reason given:\n" + "\n".join(found)


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_its_papers(tmp_path: Path) -> None:
    """What is built from here has every module, the mark of a typed package, and the licence."""
    import zipfile

    pytest.importorskip("hatchling", reason="the build backend is installed with `make environment`")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True, timeout=25)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {str(path.relative_to(CHECKOUT / "src")) for path in SOURCES}
    assert modules - names == set()
    assert "cloister/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_each_target_of_the_makefile_does_something() -> None:
    """What .PHONY and CI name has a rule: make is content without."""
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    run = re.search(r"^make (.*)$", (CHECKOUT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert run
    rules = set(re.findall(r"^([a-z-]+):.*\n\t", makefile, re.MULTILINE))
    assert {*phony[1].split(), *run[1].split()} == rules
