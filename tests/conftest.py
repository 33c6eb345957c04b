"""What holds for every test: its own temporary and runtime directory, deterministic examples, nothing left behind.

How leaks are found is in leaks.py; here they only fail the test.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import leaks
from tests.guests import begin_template, end_templates
from tests.guests import by_exec as by_exec  # a fixture
from tests.guests import kind_of_start as kind_of_start  # a fixture
from tests.running import note_left
from tests.running import pytest_runtest_protocol as pytest_runtest_protocol  # a hook

# The same examples every time: a red suite is red for everybody. HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None, print_blob=True)
hypothesis.settings.register_profile("explore", deadline=None, database=None, print_blob=True, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


# What a shell starts in the background ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--core`."""
    parser.addoption("--core", action="store_true", help="of a test with many cases only the first and the last one")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--core`, leave out the cases that tell nothing about another version of Python.

    What only some versions have is never left out: of each test one case at the level of interpreters is kept.
    """
    if not config.getoption("core"):
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {id(item) for group in cases.values() for item in (group[0], group[-1], *_of_interpreters(group)[:1])}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


def _of_interpreters(items: list[pytest.Item]) -> list[pytest.Item]:
    """The cases at the level of interpreters."""
    return [
        item for item in items if getattr(getattr(item, "callspec", None), "params", {}).get("level") == "interpreter"
    ]


@pytest.fixture(scope="session", autouse=True)
def ground_of_the_run() -> Iterator[Path]:
    """Give the run a temporary directory of its own, so that what lies in it afterwards is ours.

    Two runs on one machine do not see each other's files and pipes. Every process that a test starts inherits the
    directory, and a mark by which it is known even when its parents are gone.
    """
    # pytest keeps the directories of failed tests, outside of what is removed below.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    # A short path: the name of a socket has room for 107 bytes.
    ground = Path(tempfile.mkdtemp(prefix="clo-"))
    runtime = ground / "run"
    runtime.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(ground))
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        patch.setenv(leaks.MARK, str(os.getpid()))
        patch.delenv("CLOISTER_RUNTIME_DIR", raising=False)
        patch.setattr(tempfile, "tempdir", None)
        # The tests are imported by now. What they write themselves is not compiled into files, which would be leaks.
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setattr(sys, "dont_write_bytecode", True)
        if sys.platform != "win32":
            # One pipe ties all guests of a process to its life. It is made for the first guest, and stays on purpose.
            from cloister.levels import lifeline

            lifeline.reader()
        before = leaks.take_snapshot()
        yield ground
        found = leaks.wait_until_clean(before)
    shutil.rmtree(ground, ignore_errors=True)
    if found:
        text = leaks.describe("The run", found)
        note_left(text)
        pytest.fail(text, pytrace=False)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(ground_of_the_run: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a process, thread, descriptor, socket, mapping or temporary file behind."""
    template = begin_template()
    before = leaks.take_snapshot()
    yield
    end_templates(kept=template)
    found = leaks.wait_until_clean(before)
    if found:
        pytest.fail(leaks.describe(request.node.nodeid, found), pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """Hide the name of the test from the environment of guests."""
    _hide_the_test()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    """Hide the name of the test from the environment of guests."""
    _hide_the_test()


def _hide_the_test() -> None:
    os.environ["PYTEST_CURRENT_TEST"] = "a test"  # pytest takes it away itself
