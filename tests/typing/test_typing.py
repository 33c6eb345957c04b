"""What the type checkers say of programs that use cloister: all that is right passes, each mistake is found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="the type checkers are installed with `make environment`")
pytest.importorskip("pyright", reason="the type checkers are installed with `make environment`")

from cloister.cli.command import main

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
USES = ["uses_sync.py", "uses_async.py"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Protocols of `shop`, as the command prints them, and a configuration for pyright."""
    folder = tmp_path_factory.mktemp("made")
    for name, options in (("made_sync", []), ("made_async", ["--async"])):
        words = [sys.executable, "-m", "cloister", "stubs", "shop:Customers", "--path", str(HERE), *options]
        done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stderr
        (folder / f"{name}.py").write_text(done.stdout, encoding="utf-8")
    for use in USES:  # a checker looks beneath its folder only
        shutil.copy(HERE / use, folder)
    settings = {"extraPaths": [str(HERE), str(CHECKOUT / "src")], "typeCheckingMode": "standard"}
    (folder / "pyrightconfig.json").write_text(json.dumps({**settings, "pythonVersion": "3.11"}), encoding="utf-8")
    return folder


def _expected() -> set[tuple[str, int]]:
    return {
        (use, number)
        for use in USES
        for number, line in enumerate((HERE / use).read_text(encoding="utf-8").splitlines(), 1)
        if line.endswith("# expect-error")
    }


@pytest.mark.slow
def test_mypy_finds_what_is_wrong_and_nothing_else(made: Path) -> None:
    """mypy, in its strict mode, complains about each line that is wrong on purpose, and about no other one."""
    environment = {**os.environ, "MYPYPATH": f"{HERE}{os.pathsep}{CHECKOUT / 'src'}"}
    words = ["--strict", "--config-file=", "--no-error-summary", "--cache-dir", str(CHECKOUT / ".cache/mypy-typing")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, "--follow-imports=silent", *USES],
        cwd=made,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    found = {(file, int(line)) for file, line in re.findall(r"^(\S+\.py):(\d+): error", done.stdout, re.MULTILINE)}
    assert found == _expected(), done.stdout + done.stderr


@pytest.mark.slow
def test_pyright_finds_what_is_wrong_and_nothing_else(made: Path) -> None:
    """pyright complains about each line that is wrong on purpose, and about no other one; not about the Protocols."""
    environment = {
        **os.environ,
        "PYRIGHT_PYTHON_CACHE_DIR": str(CHECKOUT / ".cache" / "pyright"),
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "-p", str(made), "--pythonpath", sys.executable],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    complaints = [each for each in json.loads(done.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    found = {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in complaints}
    assert found == _expected(), done.stdout


def test_the_class_is_not_imported_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`cloister stubs` looks at the class in a domain; nothing of the application is loaded by the command."""
    monkeypatch.chdir(HERE)
    assert main(["stubs", "shop:Customers", "--name", "Shop"]) == 0
    said = capsys.readouterr()
    assert "class Shop(Protocol):" in said.out
    assert "    def me(self) -> Shop:" in said.out
    assert "what a module prints" not in said.out
    assert "shop" not in sys.modules


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["shop:Customer"], "has no 'Customer'"),
        (["shop.Customers"], "write 'shop:Customers'"),
        (["nowhere:Thing"], "No module named 'nowhere'"),
        (["shop:print"], "has no 'print'"),
        (["shop:Rows"], "not a class"),
        (["shop:Customers", "--name", "no name"], "'no name' is not a name"),
        (["shop:Customers", "--python", "/nowhere/python"], "/nowhere/python"),
    ],
)
def test_what_is_no_class_is_told(
    words: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that leads to no class ends the command with 1 and a line that says why."""
    monkeypatch.chdir(HERE)
    assert main(["stubs", *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("cloister stubs: ")
    assert reason in said.err


@pytest.mark.parametrize(
    "target", ["collections:Counter", "io:BytesIO", "pathlib:Path", "decimal:Decimal", "threading:Thread", "enum:Enum"]
)
@pytest.mark.parametrize("options", [[], ["--async"]], ids=["called", "awaited"])
def test_any_class_gives_a_module_that_compiles(
    target: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Classes without annotations, written in C or with unusual members, give a Protocol that Python accepts."""
    assert main(["stubs", target, *options]) == 0
    text = capsys.readouterr().out
    namespace: dict[str, object] = {}
    exec(compile(text, "made.py", "exec"), namespace)
    assert any(getattr(value, "_is_protocol", False) for value in namespace.values())
