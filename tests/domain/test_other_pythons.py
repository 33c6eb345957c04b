"""Guests of other environments and other versions of Python, with nothing installed in them."""

from __future__ import annotations

import runpy
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.errors import StartFailed
from tests.domain.journal import MODULES, Journal

Make = Callable[..., Domain]

TOOL = Path(__file__).parent.parent.parent / "tools" / "environment.py"
OTHERS = {version: path for version, path in runpy.run_path(str(TOOL))["other_pythons"]().items() if path}
HOST_ONLY = ["msgpack", "cloudpickle", "psutil", "pytest", "numpy"]
"""What the environment of the tests has installed, and a bare one has not."""


def bare_environment(folder: Path, python: str) -> str:
    """Make a virtual environment with nothing in it; return its interpreter."""
    if python == sys.executable:
        venv.create(folder, with_pip=False)
    else:
        subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=25)
    return str(folder / "bin" / "python")


def too_old() -> str | None:
    """A Python of this machine that is older than 3.11, or None."""
    folders = [Path("/usr/bin"), Path("/usr/local/bin"), *Path(sys.base_prefix).parent.glob("3.*/bin")]
    for minor in range(10, 5, -1):
        for folder in folders:
            path = folder / f"python3.{minor}"
            if (
                path.exists()
                and not subprocess.run([path, "-c", ""], capture_output=True, timeout=10, check=False).returncode
            ):
                return str(path)
    return None


@pytest.mark.parametrize(
    "version", sorted({sys.version_info[:2], *OTHERS}), ids=lambda version: ".".join(map(str, version))
)
def test_bare_environment_of_any_version_serves(
    make: Make, journal: Journal, tmp_path: Path, version: tuple[int, int]
) -> None:
    """`python=` takes an environment with nothing installed, of this version or another: objects, functions of a module
    and code that travels work there, and nothing of the host's packages becomes importable but cloister."""
    python = bare_environment(tmp_path / "bare", OTHERS.get(version) or sys.executable)
    domain = make(setup=Setup(python=python, path=[MODULES]))
    assert tuple(domain.call("troubles:version")) == version
    counter = domain.create("collections:Counter", "hello")
    assert counter["l"] == 2
    assert domain.call("troubles:add", [1], [(2, {3})]) == [1, (2, {3})]
    assert domain.call("troubles:importable", [*HOST_ONLY, "cloister"]) == ["cloister"]
    assert not any("site-packages" in entry and "bare" not in entry for entry in domain.call("troubles:search_path"))
    domain.unload()
    assert journal.lines("stderr") == []


def test_python_that_is_too_old_says_so(make: Make) -> None:
    """An interpreter before 3.11 is StartFailed, with both versions in the first line."""
    python = too_old()
    if python is None:
        pytest.skip("there is no older Python on this machine")
    with pytest.raises(
        StartFailed, match=r"before it was ready: cloister needs Python 3\.11 or later in a domain; this is 3\."
    ):
        make(setup=Setup(python=python)).wait_ready(10)


def test_python_2_is_told_apart_too(make: Make) -> None:
    """Even a Python 2 can read the program of a guest, and says that it is too old."""
    found = next(iter(Path(sys.base_prefix).parent.glob("2.7*/bin/python2.7")), Path("/usr/bin/python2.7"))
    if not found.exists():
        pytest.skip("there is no Python 2 on this machine")
    with pytest.raises(StartFailed, match=r"cloister needs Python 3\.11 or later in a domain; this is 2\.7"):
        make(setup=Setup(python=found)).wait_ready(10)


def test_paths_of_the_host_environment_do_not_reach_another(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHONPATH and PYTHONHOME speak of the host's interpreter and are kept from another one."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "only_here.py").write_text("")
    python = bare_environment(tmp_path / "bare", sys.executable)
    domain = make(setup=Setup(python=python, path=[MODULES]))
    assert domain.call("troubles:importable", ["only_here"]) == []


def test_guest_with_nothing_installed_has_domains_of_its_own(make: Make, tmp_path: Path) -> None:
    """A guest that was lent msgpack by its host lends it on to the guests that it makes itself."""
    domain = make(setup=Setup(python=bare_environment(tmp_path / "bare", sys.executable)))
    domain.exec("import cloister\nwith cloister.Domain('inner') as inner:\n    root = inner.call('math:sqrt', 16.0)")
    assert domain.eval("root") == 4.0
