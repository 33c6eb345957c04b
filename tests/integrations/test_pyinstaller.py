"""A frozen application: its guests are the application's own executable, and its main module is not run in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PyInstaller", reason="PyInstaller is not installed; make environment installs it")

APPLICATION = """\
print("the main module runs", flush=True)
import cloister


def twice(number):
    return 2 * number


if __name__ == "__main__":
    with cloister.Domain("frozen") as domain:
        print(domain.call("math:sqrt", 16.0), domain.call(twice, 21), domain.call("os:getpid") == domain.pid)
"""


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_frozen_application_calls_into_a_domain_and_runs_its_main_module_once(tmp_path: Path) -> None:
    """A guest of a frozen application serves calls by name and by value, and never runs the main module."""
    program = tmp_path / "app.py"
    program.write_text(APPLICATION)
    freeze = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR", str(program)]
    # What measures coverage can't be frozen, and is not to be.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment["PYINSTALLER_CONFIG_DIR"] = str(tmp_path)
    subprocess.run(freeze, cwd=tmp_path, check=True, timeout=120, env=environment)
    done = subprocess.run([tmp_path / "dist" / "app" / "app"], capture_output=True, text=True, timeout=25, check=False)
    assert done.stdout.splitlines() == ["the main module runs", "4.0 42 True"], done.stderr
    assert done.returncode == 0
