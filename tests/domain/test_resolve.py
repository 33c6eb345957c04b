"""Resolve events: what a guest does not find is asked of its host, the first answer wins, and failures stay bounded."""

from __future__ import annotations

import asyncio
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister import aio
from cloister.domain import events
from cloister.domain.domain import Domain
from cloister.domain.resolving import Found, Lookup
from cloister.domain.setup import Setup
from cloister.errors import DomainUnloaded, StartFailed
from tests.domain.journal import MODULES, Journal

Make = Callable[..., Domain]
VALUE = "__import__('importlib').import_module('{}').VALUE"


class Asked:
    """A handler that writes down what it was asked, and gives one answer."""

    def __init__(self, answer: Any = None) -> None:
        self.lookups: list[Lookup] = []
        self._answer = answer

    def __call__(self, lookup: Lookup) -> Any:
        self.lookups.append(lookup)
        return self._answer


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a module, a package and an archive."""
    (tmp_path / "lost.py").write_text("VALUE = 'file'\n\nclass Shop:\n    VALUE = 'of a file'\n")
    (tmp_path / "parcel").mkdir()
    (tmp_path / "parcel" / "__init__.py").write_text("VALUE = 'package'\n")
    (tmp_path / "parcel" / "inner.py").write_text("VALUE = 'inner'\n")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("lost.py", "VALUE = 'archive'\n")
    return tmp_path


@pytest.mark.parametrize(
    ("module", "answer", "value"),
    [
        ("lost", "lost.py", "file"),
        ("lost", "", "file"),
        ("lost", "all.zip", "archive"),
        ("parcel", "parcel/__init__.py", "package"),
        ("parcel", "", "package"),
    ],
)
def test_path_answers_for_a_module(make: Make, files: Path, module: str, answer: str, value: str) -> None:
    """S47: a file, a folder that has it, an archive: the module is loaded from there, and asked for once."""
    asked = Asked(files / answer)
    domain = make(setup=Setup(resolve={"module": asked}))
    assert domain.eval(VALUE.format(module)) == domain.eval(VALUE.format(module)) == value
    assert [(lookup.domain, lookup.kind, lookup.name) for lookup in asked.lookups] == [("subject", "module", module)]
    if module == "parcel":
        assert domain.eval(VALUE.format("parcel.inner")) == "inner"
    assert module not in sys.modules


def test_source_text_and_another_module_answer(make: Make) -> None:
    """S47: source text runs as the module and its lines are in tracebacks; a name imports another in its place."""
    domain = make(setup=Setup(path=[MODULES]))
    domain.on_resolve(
        "module",
        lambda lookup: Found(source="VALUE = 1\ndef fail():\n    1 / 0  # here\n") if lookup.name == "text" else None,
    )
    domain.on_resolve("module", lambda lookup: Found(name="json") if lookup.name == "ujson" else None)
    assert domain.eval(VALUE.format("text")) == 1
    with pytest.raises(ZeroDivisionError) as caught:
        domain.call("text:fail")
    assert "1 / 0  # here" in caught.value.remote_traceback  # type: ignore[attr-defined]  # see cloister.wire.exceptions
    assert domain.eval("__import__('ujson') is __import__('json')") is True


def test_first_answer_wins_and_the_requesting_module_is_told(make: Make, tmp_path: Path) -> None:
    """S47: handlers are asked in order until one answers; each gets the module whose code imports."""
    (tmp_path / "asker.py").write_text("def look():\n    import lost\n    return lost.VALUE\n")
    handlers = [Asked(), Asked(Found(source="VALUE = 'second'")), Asked(Found(source="VALUE = 'third'"))]
    domain = make(setup=Setup(path=[tmp_path]))
    for handler in handlers:
        domain.on_resolve("module", handler)
    assert domain.call("asker:look") == "second"
    assert [len(handler.lookups) for handler in handlers] == [1, 1, 0]
    assert handlers[0].lookups == [Lookup("subject", "module", "lost", "asker")]


def test_type_that_its_module_lacks(make: Make, files: Path) -> None:
    """S47: a type is asked for by module and name; another name or a file answers, and it stays the same."""
    asked = Asked(Found(name="collections:Counter"))
    domain = make(setup=Setup(resolve={"type": asked}))
    assert domain.call("json:Tally", "hello")["l"] == 2
    assert [(lookup.kind, lookup.name) for lookup in asked.lookups] == [("type", "json:Tally")]
    domain = make("second", setup=Setup(resolve={"type": Asked(files / "lost.py")}))
    domain.exec(
        "from cloister import current_domain\nmade = [type(current_domain().create('json:Shop')) for _ in '12']"
    )
    assert domain.eval("made[0] is made[1] and made[0].VALUE") == "of a file"
    with pytest.raises(ImportError, match=r"has no 'Other'; the host answered, and there is no 'Other'"):
        domain.create("json:Other")


def test_resource_that_is_not_there(make: Make, tmp_path: Path) -> None:
    """S47: `current_domain().resource` gives what lies in the package, else what the host answers, else an error."""
    (tmp_path / "logo.png").write_bytes(b"logo")
    answers: dict[str, Any] = {"json:a": Found(data=b"data"), "json:b/c.png": tmp_path / "logo.png"}
    domain = make(setup=Setup(resolve={"resource": lambda lookup: answers.get(lookup.name)}))
    resource = "__import__('cloister').current_domain().resource('json', {!r})"
    assert domain.eval(resource.format("a")) == b"data"
    assert domain.eval(resource.format("b/c.png")) == b"logo"
    assert domain.eval(resource.format("decoder.py")).startswith(b'"""')
    with pytest.raises(FileNotFoundError, match="no resource 'd' in the package 'json'"):
        domain.eval(resource.format("d"))


def test_nobody_who_answers_leaves_the_ordinary_error(make: Make, journal: Journal) -> None:
    """Without an answer the import fails as ever, once for each try, and the event tells of it."""
    domain = make(setup=Setup(resolve={"module": Asked()}))
    with pytest.raises(ModuleNotFoundError, match="No module named 'lost_for_ever'"):
        domain.call("lost_for_ever:f")
    event = journal.wait_for(events.ResolveFailed)
    assert (event.domain, event.kind, event.name) == ("subject", "module", "lost_for_ever")
    assert len(journal.of(events.ResolveFailed)) == 1


def test_event_of_a_failure_needs_no_handler_of_lookups(make: Make) -> None:
    """S47: with a handler of ResolveFailed alone, each failing lookup of a module and a type is told once."""
    told: list[tuple[str, str]] = []
    done = threading.Event()

    def note(event: events.ResolveFailed) -> None:
        told.append((event.kind, event.name))
        if len(told) == 2:
            done.set()

    domain = make(on={events.ResolveFailed: note})
    for name in ("lost_one:f", "json:Lost"):
        with pytest.raises(ImportError):
            domain.call(name)
    assert done.wait(10)
    assert told == [("module", "lost_one"), ("type", "json:Lost")]


def test_handler_that_raises_is_named_and_the_next_is_asked(make: Make) -> None:
    """What a handler raises is in the ImportError, where no other one answers; the domain goes on."""

    def broken(lookup: Lookup) -> Any:
        raise RuntimeError("no disk")

    domain = make(setup=Setup(resolve={"module": broken, "type": broken}))
    with pytest.raises(ImportError, match=r"'lost'; a resolve handler of the host failed: RuntimeError: no disk"):
        domain.call("lost:f")
    with pytest.raises(
        ImportError, match=r"has no 'Lost'; a resolve handler of the host failed: RuntimeError: no disk"
    ):
        domain.call("json:Lost")
    domain.on_resolve("module", Asked(Found(source="VALUE = 1")))
    assert domain.eval(VALUE.format("lost")) == 1


def test_handler_that_blocks_costs_its_time_and_no_more(make: Make) -> None:
    """A handler without an answer in time is an ImportError that says so; other code goes on meanwhile."""
    release = threading.Event()
    domain = make(setup=Setup(resolve={"module": lambda lookup: release.wait(20) or None}, resolve_timeout=0.1))
    try:
        with pytest.raises(ImportError, match=r"a handler gave no answer within 0\.1 s"):
            domain.call("lost:f")
        assert domain.call("math:sqrt", 16.0) == 4.0
    finally:
        release.set()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (3, "a handler answers with Found"),
        (Found(data=b""), "does not answer the question for a module"),
        (Path("/nowhere/at/all"), "the host answered '/nowhere/at/all', and it is not there"),
        (Found(source="1 +"), "invalid syntax"),
        (Found(name="lost_too"), "lost_too"),
    ],
)
def test_answers_that_lead_nowhere(make: Make, answer: Any, said: str) -> None:
    """An answer that is none, of another kind, not there, or broken is told to the code that imports."""
    domain = make(setup=Setup(resolve={"module": lambda lookup: answer if lookup.name == "lost" else None}))
    with pytest.raises((ImportError, SyntaxError), match=said):
        domain.call("lost:f")
    assert domain.call("math:sqrt", 16.0) == 4.0


def test_found_is_exactly_one_thing() -> None:
    """None or two of them are refused; so are kinds that do not exist."""
    with pytest.raises(ValueError, match="exactly one of path, source, name and data, not none"):
        Found()
    with pytest.raises(ValueError, match=r"not \['path', 'name'\]"):
        Found(path="x", name="y")
    with pytest.raises(ValueError, match=r"Setup\.resolve: 'modul'"):
        Setup(resolve={"modul": print})
    with pytest.raises(ValueError, match="resolve_timeout"):
        Setup(resolve_timeout=-1)


def test_lookups_during_the_start_are_answered(make: Make) -> None:
    """Preload and initializer already ask the handlers of the set-up; one that can't answer fails the start."""
    handlers = {
        "module": lambda lookup: Found(source="VALUE = 1\ndef start(): pass") if lookup.name == "lost" else None
    }
    make(setup=Setup(resolve=handlers, preload=["lost"], initializer="lost:start")).wait_ready(10)
    with pytest.raises(StartFailed, match="lost_too"):
        make(setup=Setup(resolve=handlers, preload=["lost_too"])).wait_ready(10)


def test_module_of_the_standard_library_is_not_asked_for(make: Make) -> None:
    """What a platform lacks of the standard library, and what is of cloister, does not reach the host."""
    asked = Asked()
    domain = make(setup=Setup(resolve={"module": asked}))
    for name in ("_winapi", "cloister.nothing"):
        with pytest.raises(ImportError):
            domain.call(f"{name}:f")
    assert asked.lookups == []


def test_lookup_by_a_thread_of_the_guest_and_with_one_call_at_a_time(make: Make) -> None:
    """A thread that the guest has started asks too, and so does a domain that runs one call at a time."""
    for limit in (None, 1):
        domain = make(
            str(limit), max_concurrency=limit, setup=Setup(resolve={"module": Asked(Found(source="VALUE = 1"))})
        )
        domain.exec(
            "import threading\ndef look(): seen.append(__import__('lost').VALUE)\nseen = []\n"
            "t = threading.Thread(target=look); t.start(); t.join()"
        )
        assert domain.eval("seen + [__import__('lost2').VALUE]") == [1, 1]


def test_handler_may_call_the_domain_that_asks(make: Make) -> None:
    """A handler that looks into the domain itself gets its answer, on another thread than the one that waits."""
    domain = make()
    domain.on_resolve("module", lambda lookup: Found(source=f"VALUE = {domain.call('math:sqrt', 16.0)}"))
    assert domain.eval(VALUE.format("lost")) == 4.0


def test_domain_inside_a_domain_asks_upwards(make: Make) -> None:
    """What nobody answers in the guest that made it is handed on to that guest's creator, with who asked."""
    asked = Asked(Found(source="VALUE = 'from above'"))
    domain = make(setup=Setup(resolve={"module": asked}))
    domain.exec(f"from cloister import Domain\nwith Domain('i') as i: value = i.eval({VALUE.format('lost')!r})")
    assert domain.eval("value") == "from above"
    assert [lookup.name for lookup in asked.lookups] == ["lost"]


def test_handler_that_blocks_does_not_block_an_event_loop() -> None:
    """A handler that waits for the loop gets what it waits for: the loop goes on while a lookup is answered."""
    release = threading.Event()

    async def main() -> Any:
        loop = asyncio.get_running_loop()

        def handler(lookup: Lookup) -> Found:
            loop.call_soon_threadsafe(release.set)
            assert release.wait(5)
            return Found(source="def f(): return 5")

        async with aio.Domain("a", echo=False, setup=Setup(resolve={"module": handler})) as domain:
            return await domain.call("lost:f")

    assert asyncio.run(main()) == 5


def test_loaded_modules_are_told_where_it_was_asked_for(make: Make, tmp_path: Path) -> None:
    """`ModuleLoaded` comes once for each module, with its file, in the order of loading, and the loader is as ever."""
    (tmp_path / "shop.py").write_text("import hotel\nLOADER = type(__spec__.loader).__name__\n")
    (tmp_path / "hotel.py").write_text("")
    told: list[tuple[str, str]] = []
    done = threading.Event()

    def note(event: events.ModuleLoaded) -> None:
        if event.file.startswith(str(tmp_path)):
            told.append((event.module, event.file))
            if len(told) == 2:
                done.set()

    domain = make(on={events.ModuleLoaded: note}, setup=Setup(path=[tmp_path]))
    assert domain.eval("__import__('shop').LOADER") == "SourceFileLoader"
    assert domain.eval("__import__('shop').__loader__.__class__.__name__") == "SourceFileLoader"
    assert done.wait(10)
    assert told == [("hotel", str(tmp_path / "hotel.py")), ("shop", str(tmp_path / "shop.py"))]
    assert domain.run_module("shop") == 0
    with pytest.raises(ModuleNotFoundError):
        domain.call("lost:f")


def test_event_of_every_kind_does_not_turn_the_watching_on(make: Make, journal: Journal) -> None:
    """A handler of all events has no cost in the guest: nothing is watched for it."""
    domain = make()
    assert (
        domain.eval("[type(f).__module__ for f in __import__('sys').meta_path if 'cloister' in type(f).__module__]")
        == []
    )
    assert journal.of(events.ModuleLoaded) == []


def test_what_can_not_be_asked_is_refused_at_once(make: Make) -> None:
    """A handler that can't be called is an error where it is given."""
    with pytest.raises(TypeError, match=r"Setup\.resolve: the handler of 'module'"):
        Setup(resolve={"module": 3})  # type: ignore[dict-item]  # that is the point
    with pytest.raises(TypeError, match="can't be called"):
        make().on_resolve("type", "me")  # type: ignore[arg-type]  # that is the point


# -- handlers that misbehave -----------------------------------------------------------------------------------------


def test_handler_that_exits_fails_the_lookup_alone(make: Make) -> None:
    """S47: `sys.exit()` in a handler is an answer that failed, and ends neither the call nor this program."""
    domain = make(setup=Setup(resolve={"module": lambda lookup: sys.exit(3)}))
    with pytest.raises(ModuleNotFoundError, match=r"a resolve handler of the host failed: .*SystemExit: 3"):
        domain.load("lost_for_ever")
    assert domain.eval("6 * 7") == 42


def test_handler_that_looks_for_the_same_is_not_asked_again(make: Make) -> None:
    """S47: a handler that sends the domain back to what it was asked for gets no answer there, and gives one itself."""
    asked: list[str] = []

    def resolve(lookup: Lookup) -> Found:
        asked.append(lookup.name)
        with pytest.raises(FileNotFoundError):
            domain.eval("cloister.current_domain().resource('email', 'none.txt')")
        return Found(data=b"found")

    domain = make(setup=Setup(resolve={"resource": resolve}))
    domain.exec("import cloister")
    assert domain.eval("cloister.current_domain().resource('email', 'none.txt')") == b"found"
    assert asked == ["email:none.txt"]


def test_handler_that_blocks_does_not_outlast_its_domain(make: Make) -> None:
    """S47, O05: a call that waits for a handler ends with its domain, whatever the handler does."""
    asked, release = threading.Event(), threading.Event()

    def resolve(lookup: Lookup) -> None:
        asked.set()
        release.wait(60)

    domain = make(setup=Setup(resolve={"module": resolve}, resolve_timeout=600))
    errors: list[BaseException] = []

    def load() -> None:
        try:
            domain.load("lost_for_ever")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        assert asked.wait(30)
        domain.unload()
        thread.join(30)
        assert [type(error) for error in errors] == [DomainUnloaded]
    finally:
        release.set()


def test_handler_runs_for_the_logical_thread_that_asks(make: Make) -> None:
    """S37: what a handler calls is called for the thread whose code looks for something."""
    seen: list[int] = []
    domain = make(setup=Setup(resolve={"module": lambda lookup: seen.append(cloister.logical_thread())}))
    with pytest.raises(ModuleNotFoundError):
        domain.load("lost_for_ever")
    assert seen == [cloister.logical_thread()]
