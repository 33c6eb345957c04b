"""An environment is made once, with the words of uv where it can't be, and never used half made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.domain import events
from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.environments import build as building
from cloister.environments import store
from cloister.environments.build import build
from cloister.environments.spec import spec_of
from cloister.errors import DomainUnloaded, EnvironmentFailed, StartFailed
from cloister.report import Reason
from tests.domain.journal import Journal, is_running
from tests.environments.wheels import make_wheel
from tests.patience import wait_until

Make = Callable[..., Domain]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the process level is not there yet")


@pytest.fixture
def slow_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let uv say that it has begun and then wait until the file that is returned is there; then uv does its work."""
    go, program = tmp_path / "go", tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho begun $$\nwhile [ ! -e {go} ]; do sleep 0.01; done\nexec {building.find_uv()} "$@"\n'
    )
    program.chmod(0o755)
    # What `import uv` finds is set aside, in the processes that build as well: there is no package of that name.
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "uv.py").write_text("raise ImportError('set aside by a test')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "no"))
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return go


@pytest.mark.usefixtures("cache")
def test_two_versions_of_a_package_in_one_program(make: Make, journal: Journal) -> None:
    """Each domain has what its own requirements ask for, also what these need, and nothing of the host's."""
    old, new = (make(each, setup=Setup(requirements=[each])) for each in ("acme<2", "acme"))
    assert [domain.eval("__import__('acme').VERSION") for domain in (old, new)] == ["1.0", "2.0"]
    assert make("third", setup=Setup(requirements=["mill"])).eval("__import__('acme').VERSION") == "1.0"
    found = new.eval(
        "[n for n in ('msgpack', 'psutil', 'pytest', 'cloister') if __import__('importlib.util').util.find_spec(n)]"
    )
    assert found == ["cloister"]
    assert "+ acme==1.0" in [event.line for event in journal.of(events.Building)]
    assert "acme" not in sys.modules


@pytest.mark.usefixtures("cache")
def test_second_domain_uses_what_the_first_has_made(make: Make, journal: Journal) -> None:
    """The same requirements in any order give the same environment, which is made once and then starts at once."""
    first = make(setup=Setup(requirements=["acme==1.0", "mill"]))
    prefix = first.eval("__import__('sys').prefix")
    first.unload()
    second = make(setup=Setup(requirements=["mill", " acme==1.0 "]), on={})
    assert second.eval("__import__('sys').prefix") == prefix
    lines = [event.line for event in journal.of(events.Building)]
    assert len([line for line in lines if line.startswith("building")]) == 1
    kinds = [kind for kind in journal.kinds() if kind != "Building"]
    assert kinds == ["Connected", "Ready", "Unloading", "Exited"]


@pytest.mark.usefixtures("cache")
def test_domain_with_an_empty_list_has_nothing_installed(make: Make) -> None:
    """`requirements=[]` is an environment of its own with nothing in it; code that travels works there."""
    domain = make(setup=Setup(requirements=[]))
    assert domain.call(lambda: 6 * 7) == 42
    assert domain.eval("__import__('sys').prefix") != sys.prefix


@pytest.mark.usefixtures("cache")
def test_requirement_that_can_not_be_met_fails_the_start(make: Make) -> None:
    """StartFailed names the domain and the requirement, with the words of uv; nothing is kept."""
    domain = make("shop", setup=Setup(requirements=["acme", "nosuch-thing==9"]))
    with pytest.raises(StartFailed, match=r"'shop'.*'nosuch-thing==9' could not be built") as caught:
        domain.wait_ready(25)
    assert "nosuch-thing was not found" in str(caught.value)
    assert isinstance(caught.value.__cause__, EnvironmentFailed)
    assert caught.value.report is not None
    assert caught.value.report.reason is Reason.START_FAILED
    assert store.kept() == []


def test_without_uv_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the extra nor a program uv: EnvironmentFailed at the creation, with the command that mends it."""
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CLOISTER_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentFailed, match=r"domain 'shop': .*pip install 'cloister\[environments\]'"):
        Domain("shop", setup=Setup(requirements=["acme"]))


@pytest.mark.usefixtures("cache")
def test_cache_that_can_not_be_written_fails_the_start(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache in a place that is no folder is named, with the variable that names another."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLOISTER_CACHE", str(tmp_path / "file"))
    with pytest.raises(StartFailed, match="CLOISTER_CACHE names another place"):
        make(setup=Setup(requirements=["acme"])).wait_ready(25)


@pytest.mark.usefixtures("cache")
def test_two_domains_that_need_it_at_the_same_moment(make: Make, slow_uv: Path) -> None:
    """One builds, the other waits for it and says so; both serve, and the start time-out does not count the build."""
    journals = [Journal(), Journal()]
    setup = Setup(requirements=["acme"])
    domains = [make(str(i), setup=setup, on=journals[i].all, start_timeout=1.5 if i else 20.0) for i in range(2)]

    def lines(stage: str) -> int:
        return sum(stage in event.line for journal in journals for event in journal.of(events.Building))

    wait_until(lambda: lines("begun") and lines("another process builds it"))
    assert {domain.status().state for domain in domains} == {"starting"}
    passed = time.monotonic() + 1.6
    wait_until(lambda: time.monotonic() > passed)  # longer than the start time-out of the second
    slow_uv.touch()
    assert [domain.eval("__import__('acme').VERSION") for domain in domains] == ["2.0", "2.0"]
    assert lines("building an environment") == 1


@pytest.mark.usefixtures("cache")
def test_unload_ends_a_build_and_the_next_one_begins_anew(make: Make, journal: Journal, slow_uv: Path) -> None:
    """A domain that is unloaded while its environment is made takes uv with it; half an environment is never used."""
    setup = Setup(requirements=["acme"])
    domain = make(setup=setup)
    begun = journal.wait_for(events.Building, count=2)
    uv = int(begun.line.split()[1])
    (half,) = store.kept()
    assert not half.whole
    domain.unload()
    wait_until(lambda: not is_running(uv))
    with pytest.raises(DomainUnloaded):
        domain.call("acme:VERSION")
    slow_uv.touch()
    assert make("next", setup=setup).eval("__import__('acme').VERSION") == "2.0"


@pytest.mark.usefixtures("cache")
def test_build_that_was_killed_is_not_used(make: Make, journal: Journal, slow_uv: Path) -> None:
    """SIGKILL to the process that builds: StartFailed; what it left is removed, by the next build or by `clean`."""
    domain = make(setup=Setup(requirements=["acme"]))
    journal.wait_for(events.Building, count=2)
    os.kill(domain.pid, signal.SIGKILL)
    with pytest.raises(StartFailed, match="ended before it was ready"):
        domain.wait_ready(10)
    (half,) = store.kept()
    assert not half.whole
    wait_until(lambda: store.clean(1e9) == [half])
    assert store.kept() == []


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("end", ["kill", "exit"])
def test_build_ends_with_its_host(slow_uv: Path, end: str) -> None:
    """A host that is killed, or that exits, in the middle of a build takes the process that builds and uv with it."""
    program = (
        "import sys, cloister; from cloister import events\n"
        "def tell(event):\n    if 'begun' in event.line: print(event.pid, event.line.split()[1], flush=True)\n"
        "domain = cloister.Domain('a', setup=cloister.Setup(requirements=['acme']), on={events.Building: tell})\n"
        "sys.stdin.read()\n"
    )
    host = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    assert host.stdin is not None
    builder, uv = map(int, host.stdout.readline().split())
    assert is_running(builder)
    assert is_running(uv)
    if end == "kill":
        host.kill()
    host.communicate(timeout=20)
    wait_until(lambda: not is_running(builder) and not is_running(uv))
    assert not slow_uv.exists()


@pytest.mark.usefixtures("cache")
def test_many_processes_build_the_same_one(tmp_path: Path) -> None:
    """Four processes at once: one builds, all get the same interpreter, and it works."""
    program = (
        "import os; from cloister.environments.build import build; from cloister.environments.spec import spec_of\n"
        "lines = []; print(build(spec_of(['acme'], None, os.environ), lines.append), 'building' in str(lines))"
    )
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [each.communicate(timeout=25)[0].split() for each in started]
    assert len({python for python, _ in said}) == 1
    assert sorted(built for _, built in said) == ["False", "False", "False", "True"]
    assert subprocess.run([said[0][0], "-c", "import acme"], check=False).returncode == 0


@pytest.mark.usefixtures("cache")
def test_wheel_by_its_path_is_installed_again_when_it_changes(tmp_path: Path) -> None:
    """A requirement may be a path, relative ones too; another file of that name is another environment."""
    wheel = make_wheel(tmp_path / "own", "tool", "1.0")
    specs = [spec_of([os.path.relpath(wheel)], None, os.environ)]
    assert specs[0].requirements == (str(wheel),)
    python = build(specs[0], lambda line: None)
    assert subprocess.run([python, "-c", "import tool"], check=False).returncode == 0
    os.utime(wheel, (1, 1))
    specs.append(spec_of([str(wheel)], None, os.environ))
    assert specs[0].key != specs[1].key


@pytest.mark.usefixtures("cache")
def test_virtual_environment_that_is_there_is_used(make: Make, tmp_path: Path) -> None:
    """`venv=` takes the folder of an environment; one that is none is StartFailed at the creation."""
    python = build(spec_of(["acme==1.0"], None, os.environ), lambda line: None)
    domain = make(setup=Setup(venv=Path(python).parent.parent))
    assert domain.eval("__import__('acme').VERSION") == "1.0"
    with pytest.raises(StartFailed, match=r"no virtual environment in .*nowhere"):
        Domain(setup=Setup(venv=tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"Setup\.venv brings its own"):
        Setup(venv=tmp_path, requirements=["acme"])


@pytest.mark.usefixtures("cache")
def test_environment_of_a_guest_is_that_of_its_own_domains(make: Make) -> None:
    """A domain made inside a domain inherits the interpreter with its packages, unless it is given others."""
    domain = make(setup=Setup(requirements=["acme==1.0"]))
    domain.exec(
        "import cloister\nwith cloister.Domain('inner') as it:\n    found = it.eval(\"__import__('acme').VERSION\")"
    )
    assert domain.eval("found") == "1.0"


def test_what_is_no_requirement_is_refused() -> None:
    """A text instead of a list, an option, two lines: refused where it is written, by the name of the option."""
    with pytest.raises(TypeError, match=r"Setup\.requirements is a list"):
        Setup(requirements="numpy")
    for each in ("-r requirements.txt", "--index-url=x", "", "a\nb"):
        with pytest.raises(ValueError, match=r"Setup\.requirements"):
            Setup(requirements=[each])
