"""Programs, data slots and counts of a domain for asyncio: the same names as at `cloister.Domain`, awaited."""

from __future__ import annotations

from pathlib import Path

import pytest

import cloister
from cloister import aio
from cloister.errors import DomainUnloaded, LevelUnavailable, MarshalError
from tests.aio.domains import new
from tests.loops import Run as Run
from tests.loops import run_asyncio as run_asyncio


def test_programs_run_and_give_their_exit_codes(run: Run, tmp_path: Path) -> None:
    """A module, a file, and the program of the set-up; text that names none is refused before anything is sent."""
    file = tmp_path / "ends.py"
    file.write_text("import sys; sys.exit(len(sys.argv))")

    async def main() -> None:
        setup = cloister.Setup(base=tmp_path, path=[tmp_path], entry_point="ends.py")
        async with aio.Domain("programs", setup=setup, echo=False) as domain:
            assert await domain.run_module("ends", ["one"]) == 2
            assert await domain.run_path(file) == 1
            assert await domain.run(["one", "two"]) == 3
        async with new() as plain:
            with pytest.raises(ValueError, match="no program of its own"):
                await plain.run()
            with pytest.raises(TypeError):
                await plain.run_module("ends", "one")

    run(main())


def test_data_slots_modules_and_counts(run: Run) -> None:
    """What is put into a slot is found there; what can't travel is refused; modules and counts are those over there."""

    async def main() -> None:
        async with new() as domain:
            await domain.set_data("colour", ["red"])
            assert await domain.get_data("colour") == ["red"]
            assert await domain.get_data("size") is None
            with pytest.raises(MarshalError):
                await domain.set_data("colour", object())
            assert await domain.get_data("colour") == ["red"]
            await domain.call("errands:add", 1, 1)
            assert str((await domain.modules())["errands"]).endswith("errands.py")
            assert (await domain.allocated(stop=True)).peak >= 0
        with pytest.raises(DomainUnloaded):
            await domain.get_data("colour")

    run(main())


def test_domain_of_this_process_can_not_be_killed_or_counted(run: Run) -> None:
    """What the level can't do is refused with its name, and the domain goes on."""

    async def main() -> None:
        async with aio.Domain("inside", level="thread") as domain:
            with pytest.raises(LevelUnavailable, match="kill"):
                await domain.kill()
            with pytest.raises(LevelUnavailable, match="allocated"):
                await domain.allocated()
            assert await domain.call("operator:add", 1, 1) == 2

    run(main())
