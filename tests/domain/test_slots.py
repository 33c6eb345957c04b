"""Data slots of a domain, its modules, and the figures of its process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.errors import MarshalError
from tests.domain.journal import MODULES


@pytest.fixture(scope="module")
def domain() -> Iterator[cloister.Domain]:
    """A domain that the tests of this module share."""
    with cloister.Domain("slots", setup=cloister.Setup(path=[MODULES])) as shared:
        yield shared


def test_host_and_guest_read_each_others_slots(domain: cloister.Domain) -> None:
    """O08: what the host puts into a slot its guest finds, as a copy, and the other way round; an empty one is None."""
    days = [date(2001, 12, 2)]
    domain.set_data("days", days)
    days.append(date(2001, 12, 3))
    assert domain.eval("__import__('cloister').current_domain().get_data('days')") == [date(2001, 12, 2)]
    domain.exec("import cloister; cloister.current_domain().set_data('answer', (1, 'two'))")
    assert domain.get_data("answer") == (1, "two")
    assert domain.get_data("nothing") is None
    domain.set_data("answer", None)
    assert domain.get_data("answer") is None


def test_slots_belong_to_one_domain(domain: cloister.Domain) -> None:
    """O08: a slot that is used in one domain is empty in the default one, and the other way round."""
    here = cloister.current_domain()
    domain.set_data("mine", 1)
    here.set_data("yours", 2)
    assert (here.get_data("mine"), domain.get_data("yours"), here.get_data("yours")) == (None, None, 2)
    here.set_data("yours", None)


def test_what_is_not_copied_comes_as_a_proxy_and_does_not_go(domain: cloister.Domain) -> None:
    """O08: an object of the guest in a slot is reached by a proxy; one of the host that has no copy is refused."""
    domain.exec("import cloister, customers; cloister.current_domain().set_data('list', customers.Customers())")
    customers = domain.get_data("list")
    assert cloister.is_proxy(customers)
    assert customers.add("Ada") == 1
    assert domain.get_data("list") is customers
    with pytest.raises(MarshalError):
        domain.set_data("lock", threading.Lock())
    with pytest.raises(TypeError, match="name of a data slot is a text, not 3"):
        domain.set_data(3, 1)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="a text"):
        cloister.current_domain().set_data(3, 1)  # type: ignore[arg-type]  # that is the point


def test_modules_are_loaded_there_and_nowhere_else(domain: cloister.Domain) -> None:
    """S48: a module that is loaded into a domain is listed there with its file, and is not loaded here."""
    domain.load("numbers_apart")
    modules = domain.modules()
    assert modules["numbers_apart"] == str(Path(MODULES) / "numbers_apart.py")
    assert modules["sys"] is None
    assert "numbers_apart" not in sys.modules
    assert "numbers_apart" not in cloister.current_domain().modules()
    cloister.current_domain().load("json")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        domain.load("no_such_module")
    with pytest.raises(TypeError, match="the name of a module"):
        domain.load(sys)  # type: ignore[arg-type]  # that is the point


def test_an_object_is_made_from_a_file(domain: cloister.Domain, tmp_path: Path, monkeypatch: Any) -> None:
    """S36: `create` takes a class from a file, by a relative path too; the file is loaded once, and hides no module."""
    file = tmp_path / "json.py"
    file.write_text("import cloister\nloads = []\nclass Made(list):\n    def go(self): return type(self).__module__\n")
    monkeypatch.chdir(tmp_path)
    made = domain.create("./json.py:Made")
    name = made.go()
    assert name.startswith("json@")
    assert domain.create(f"{file}:Made").go() == name
    assert domain.modules()[name] == str(file)
    assert domain.call("json:dumps", [1]) == "[1]"
    assert cloister.current_domain().create(f"{file}:Made").go() == name
    sys.modules.pop(name)
    for wrong, error in (
        (f"{tmp_path}/none.py:Made", FileNotFoundError),
        (f"{file}:Nothing", ImportError),
        (f"{tmp_path}/text.txt:Made", ImportError),
        ("json.py", ValueError),
        ("a:b:c", ValueError),
    ):
        with pytest.raises(error):
            domain.create(wrong)
    (tmp_path / "bad.v1.py").write_text("this is no Python")
    with pytest.raises(SyntaxError):
        domain.create("bad.v1.py:Made")


def test_status_tells_what_the_process_has_used(domain: cloister.Domain) -> None:
    """O12: CPU time grows with work; resident memory and its peak are there, and the peak remembers what was freed."""
    before = domain.status()
    assert before.memory is not None
    assert before.peak_memory is not None
    assert before.cpu_seconds is not None
    domain.exec("big = bytearray(48 << 20)\nfor at in range(0, len(big), 4096): big[at] = 1\nsum(range(3_000_000))\n")
    domain.exec("del big")
    after = domain.status()
    assert after.peak_memory is not None
    assert after.cpu_seconds is not None
    assert after.peak_memory >= before.memory + (40 << 20)
    assert after.cpu_seconds > before.cpu_seconds


def test_status_of_an_ended_domain_keeps_its_peak() -> None:
    """O12: after its end the status still says how much memory and CPU time the domain took."""
    domain = cloister.Domain("short")
    domain.wait_ready()
    domain.unload()
    status = domain.status()
    assert status.memory is None
    assert status.peak_memory is not None
    assert status.peak_memory > 1 << 20


def test_allocated_bytes_are_counted_on_request(domain: cloister.Domain) -> None:
    """O12: counting begins when it is first asked for, sees what Python allocates, and ends on request."""
    assert domain.allocated() == type(domain.allocated())(0, 0) or domain.allocated().size < 1 << 20
    domain.exec("kept = [bytes(1000) for _ in range(4000)]")
    counted = domain.allocated()
    assert counted.size > 4_000_000
    assert counted.peak >= counted.size
    domain.exec("del kept")
    assert domain.allocated(stop=True).size < counted.size
    assert domain.allocated(stop=True).peak == 0
    assert domain.eval("__import__('tracemalloc').is_tracing()") is False
