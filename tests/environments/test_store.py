"""Environments that are kept: what is used stays, what is old goes, a lock is one holder's."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.domain.domain import Domain
from cloister.domain.setup import Setup
from cloister.environments import locks, store
from cloister.environments.build import build
from cloister.environments.spec import spec_of
from cloister.errors import StartFailed

Make = Callable[..., Domain]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shared locks are not needed there")


@pytest.mark.usefixtures("cache")
def test_environment_in_use_is_not_removed(make: Make) -> None:
    """While a domain lives, its environment stays, whatever its age; afterwards it goes."""
    domain = make(setup=Setup(requirements=["acme"]))
    domain.wait_ready(25)
    assert store.clean(0) == []
    assert domain.eval("__import__('acme').VERSION") == "2.0"
    domain.unload()
    (gone,) = store.clean(0)
    assert gone.requirements == ("acme",)
    assert os.listdir(os.path.dirname(gone.folder)) == []


@pytest.mark.usefixtures("cache")
def test_age_counts_from_the_last_use() -> None:
    """An environment that was used within the time stays; `find` is a use."""
    spec = spec_of([], None, os.environ)
    build(spec, lambda line: None)
    mark = os.path.join(store.folder_of(spec.key), "environment.json")
    long_ago = time.time() - 100_000
    os.utime(mark, (long_ago, long_ago))
    assert store.find(spec.key) is not None
    assert store.clean(50_000) == []
    os.utime(mark, (long_ago, long_ago))
    assert [each.key for each in store.clean(50_000)] == [spec.key]


@pytest.mark.usefixtures("cache")
def test_environment_whose_python_is_gone_is_made_again() -> None:
    """An interpreter that was removed from the machine: the environment is not used, but made anew."""
    spec = spec_of([], None, os.environ)
    python = Path(build(spec, lambda line: None))
    python.unlink()
    assert store.find(spec.key) is None
    assert Path(build(spec, lambda line: None)).exists()


@pytest.mark.usefixtures("cache")
def test_environment_removed_before_the_guest_could_say_that_it_uses_it(make: Make) -> None:
    """Removed between the look and the use: StartFailed that says to make the domain again, and that then works."""
    setup = Setup(requirements=[])
    spec = spec_of([], None, os.environ)
    build(spec, lambda line: None)
    os.remove(store.in_use_file(spec.key))
    with pytest.raises(StartFailed, match="make the domain again"):
        make(setup=setup).wait_ready(25)


def test_lock_has_one_holder_at_a_time(tmp_path: Path) -> None:
    """Who waits is told once and gets it next; who does not wait gets None; a removed file is another lock."""
    path = str(tmp_path / "lock")
    waited: list[int] = []
    told = threading.Event()

    def tell() -> None:
        waited.append(1)
        told.set()

    def wait() -> None:
        with locks.alone(path, tell) as mine:
            waited.append(0 if mine is None else 2)

    thread = threading.Thread(target=wait)
    with locks.alone(path) as mine:
        assert mine is not None
        with locks.alone(path) as second:
            assert second is None
        thread.start()
        assert told.wait(10)
        os.remove(path)
    thread.join(10)
    assert waited == [1, 2]


def test_use_and_removal_exclude_each_other(tmp_path: Path) -> None:
    """Two may use; nobody removes meanwhile; what is being removed can't be used."""
    path = str(tmp_path / "in-use")
    with pytest.raises(FileNotFoundError):
        locks.hold(path)
    (tmp_path / "in-use").write_text("")
    users = [locks.hold(path), locks.hold(path)]
    with locks.alone(path) as mine:
        assert mine is None
    for fd in users:
        os.close(fd)
    with locks.alone(path) as mine:
        assert mine is not None
        with pytest.raises(BlockingIOError):
            locks.hold(path)
