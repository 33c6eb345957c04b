"""A Flask application that keeps one plug-in in a domain: a crash costs one answer, not the server.

Run it: flask --app examples/web/app run
"""

from __future__ import annotations

from pathlib import Path

from flask import Flask, request
from flask.typing import ResponseReturnValue
from plugin import Plugin

import cloister

app = Flask(__name__)
spelling = Plugin("spelling:Checker", cloister.Setup(path=[Path(__file__).parent / "plugins"]))


@app.post("/check")
def check() -> ResponseReturnValue:
    """Tell which words of the text are unknown."""
    try:
        return {"unknown": spelling.call("unknown", request.get_data(as_text=True))}
    except cloister.DomainCrashed as crash:
        app.logger.error("%s", crash.report)
        return {"error": "this text can't be checked"}, 422
    except cloister.CallTimeout:
        return {"error": "this text takes too long"}, 503
