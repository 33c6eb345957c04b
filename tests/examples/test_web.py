"""The web application of the how-to guide, met by Flask's test client."""

from __future__ import annotations

import importlib.util
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flask", reason="the guides' libraries are installed with `make environment`")

APPLICATION = Path(__file__).parent.parent.parent / "examples" / "web" / "app.py"


@pytest.fixture
def application() -> Iterator[Any]:
    """The module of the application, freshly loaded; its domain ends with the test."""
    spec = importlib.util.spec_from_file_location("example_web_app", APPLICATION)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    module.spelling.close()
    vars(module).clear()


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
