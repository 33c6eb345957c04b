"""The application of app.py with FastAPI: the same plug-in, in the same kind of domain.

Run it: uvicorn --app-dir examples/web api:app
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Body, FastAPI, HTTPException
from plugin import Plugin

import cloister

spelling = Plugin("spelling:Checker", cloister.Setup(path=[Path(__file__).parent / "plugins"]))


@asynccontextmanager
async def life(_: FastAPI) -> AsyncIterator[None]:
    """End the domain with the server."""
    yield
    spelling.close()


app = FastAPI(lifespan=life)


@app.post("/check")
def check(text: Annotated[str, Body(media_type="text/plain")]) -> dict[str, list[str]]:
    """Tell which words of the text are unknown. Not `async def`: a call waits, and here it waits on a thread."""
    try:
        return {"unknown": spelling.call("unknown", text)}
    except cloister.DomainCrashed as crash:
        logging.error("%s", crash.report)
        raise HTTPException(422, "this text can't be checked") from None
    except cloister.CallTimeout:
        raise HTTPException(503, "this text takes too long") from None
