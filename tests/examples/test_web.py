"""The web applications of the how-to guide, met by the test clients of Flask and FastAPI."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent.parent / "examples" / "web"
MISSING = "the guides' libraries are installed with `make environment`"


def _loaded(name: str, patch: pytest.MonkeyPatch) -> Iterator[Any]:
    patch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location(f"example_web_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, module.__name__, module)  # FastAPI looks there for the names in annotations
    spec.loader.exec_module(module)
    yield module
    module.spelling.close()
    sys.modules.pop("plugin")
    vars(module).clear()


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the Flask application, freshly loaded; its domain ends with the test."""
    pytest.importorskip("flask", reason=MISSING)
    yield from _loaded("app", monkeypatch)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the FastAPI application, freshly loaded; its domain ends with the test."""
    pytest.importorskip("fastapi", reason=MISSING)
    pytest.importorskip("httpx", reason=MISSING)
    yield from _loaded("api", monkeypatch)


def test_a_request_that_crashes_the_plugin_costs_one_answer(application: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The client whose text crashes the plug-in gets 422; the next one is served; the log has the report."""
    client = application.app.test_client()
    assert client.post("/check", data="the harbor").get_json() == {"unknown": ["harbor"]}
    with caplog.at_level(logging.ERROR):
        assert client.post("/check", data="a segfault in the evening").status_code == 422
    assert signal.Signals.SIGSEGV.name in caplog.text
    assert client.post("/check", data="the harbour").get_json() == {"unknown": []}


def test_requests_are_served_side_by_side_while_one_of_them_crashes(application: Any) -> None:
    """Of eight requests at once, each gets an answer: 200, or 422 where it shared the domain that crashed."""
    codes: list[int] = []

    def ask(number: int) -> None:
        text = "segfault" if number == 3 else "the evening"
        codes.append(application.app.test_client().post("/check", data=text).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(codes) == 8
    assert set(codes) <= {200, 422}
    assert 422 in codes
    assert application.app.test_client().post("/check", data="the evening").status_code == 200


def test_a_request_to_the_api_that_crashes_the_plugin_costs_one_answer(
    api: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With FastAPI, too: 422 for the text that crashes the plug-in, a report in the log, and an answer to the next."""
    import httpx

    async def ask() -> list[httpx.Response]:
        answers = []
        transport = httpx.ASGITransport(api.app)
        headers = {"Content-Type": "text/plain"}
        async with api.life(api.app), httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            for text in ("the harbor", "a segfault in the evening", "the harbour"):
                answers.append(await client.post("/check", content=text, headers=headers, timeout=50))
        return answers

    with caplog.at_level(logging.ERROR):
        first, crashed, last = asyncio.run(ask())
    assert first.json() == {"unknown": ["harbor"]}
    assert (crashed.status_code, crashed.json()) == (422, {"detail": "this text can't be checked"})
    assert signal.Signals.SIGSEGV.name in caplog.text
    assert last.json() == {"unknown": []}
    assert api.spelling._domain.report is not None  # the server ends it
