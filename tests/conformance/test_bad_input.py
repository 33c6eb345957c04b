"""Everything that may go wrong at once, with threads and on a loop: others are served, and the program ends in time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODULES = Path(__file__).parent.parent / "modules"

THREADS = """
import sys, threading, time
from pathlib import Path
import cloister

modules, folder = sys.argv[1:]
options = {"setup": cloister.Setup(path=[modules]), "stop_timeout": 0.5, "echo": False}
bad, good, gone = (cloister.Domain(name, **options) for name in ("bad", "good", "gone"))
begun = threading.Semaphore(0)

def block():
    begun.release()
    time.sleep(600)

def never():
    block()
    yield 1

def swallow():
    begun.release()
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass

def aside(function, *args):
    threading.Thread(target=lambda: function(*args), daemon=True).start()

def fail():
    raise LookupError("of the host")

def up(depth):
    return bad.call("errands:call", up, depth - 1) if depth else 7

stream = bad.call("conforming:items", folder + "/yielded")
aside(list, stream)                                           # a generator of the domain that never yields
aside(bad.call, "conforming:read", never(), 1)                # and one of the host
unread = bad.call("conforming:count", 10**9)                  # a consumer that never reads
next(unread)
for function in (block, swallow):                             # call-backs that block
    bad.submit("errands:call", function)
    aside(bad.call, "errands:call", function)
    bad.submit("errands:call_from_thread", function)
try:
    bad.call("errands:call", fail)                            # that raise
except LookupError as error:
    print(error)
print(bad.call("errands:call", up, 5))                        # that call the same domain
call = bad.submit("conforming:swallow", folder + "/swallowing")
while not Path(folder, "swallowing").exists():
    time.sleep(0.01)
print(call.cancel())                                          # a coroutine that swallows its cancellation
box = gone.create("conforming:Box", 1)
gone.unload()
try:
    box.add(1)                                                # a proxy after its domain
except cloister.DomainUnloaded:
    print("unloaded")
for _ in range(7):
    begun.acquire()
print(bad.call("errands:add", 1, 1), bad.submit("errands:add", 1, 1).result(), good.call("errands:add", 1, 1))
print("leaving", flush=True)
"""

LOOP = """
import asyncio, sys, time
from pathlib import Path
import cloister

modules, folder = sys.argv[1:]
kept = []

async def main():
    options = {"setup": cloister.Setup(path=[modules]), "stop_timeout": 0.5, "echo": False}
    bad, good, gone = (cloister.aio.Domain(name, **options) for name in ("bad", "good", "gone"))
    begun = asyncio.Semaphore(0)

    async def block():
        begun.release()
        await asyncio.sleep(600)

    async def never():
        await block()
        yield 1

    async def swallow():
        begun.release()
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                pass

    async def fail():
        raise LookupError("of the host")

    async def up(depth):
        return await bad.call("errands:call", up, depth - 1) if depth else 7

    def aside(call):
        kept.append(asyncio.ensure_future(call))

    stream = await bad.call("conforming:items", folder + "/yielded")
    await anext(stream)
    aside(anext(stream))
    aside(bad.call("conforming:read", never(), 1))
    unread = await bad.call("conforming:count", 10**9)
    await anext(unread)
    for function in (block, swallow):
        aside(bad.call("errands:call", function))
        aside(bad.call("conforming:await_host", folder + "/awaiting", function))
        aside(bad.call("errands:call_from_thread", function))
    try:
        await bad.call("errands:call", fail)
    except LookupError as error:
        print(error)
    print(await bad.call("errands:call", up, 5))
    call = bad.submit("conforming:swallow", folder + "/swallowing")
    while not Path(folder, "swallowing").exists():
        await asyncio.sleep(0.01)
    print(call.cancel())
    box = await gone.create("conforming:Box", 1)
    await gone.unload()
    try:
        await box.add(1)
    except cloister.DomainUnloaded:
        print("unloaded")
    for _ in range(7):
        await begun.acquire()
    calls = bad.call("errands:add", 1, 1), bad.submit("errands:add", 1, 1), good.call("errands:add", 1, 1)
    print(*await asyncio.gather(*calls))
    return await good.create("conforming:Box", 1)

loop = asyncio.new_event_loop()
box = loop.run_until_complete(main())
try:
    box.add(1)                                                # a proxy after its loop
except RuntimeError:
    pass

async def again():
    assert await box.add(1) == 2

asyncio.run(again())
print("leaving", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [THREADS, LOOP], ids=["threads", "loop"])
def test_nothing_that_goes_wrong_stops_others_or_the_exit(program: str, tmp_path: Path) -> None:
    """Each line of what-goes-wrong.md at once: other calls and domains are served, and the program ends in time."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(MODULES), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=45,
        check=False,
    )
    assert done.stdout.splitlines() == ["of the host", "7", "True", "unloaded", "2 2 2", "leaving"], done.stderr
    assert done.returncode == 0, done.stderr
