"""The page from which a guest in another language is written says what the code does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from cloister.wire.containers import MARKERS
from cloister.wire.handlers import _BY_CODE
from cloister.wire.limits import DEFAULT_LIMITS
from cloister.wire.messages import Kind
from cloister.wire.scalars import MARKER_CODE, READERS
from cloister.wire.version import PROTOCOL_VERSION
from tests.wire.test_golden import GOLDEN

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "protocol.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Give the text under one heading."""
    return PAGE.split(f"# {title}\n")[1].split("\n#")[0]


def first_numbers(text: str) -> set[int]:
    """Give the numbers that stand in the first column of a table."""
    return {int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}


def test_every_example_has_its_golden_bytes() -> None:
    """Each value and each frame of the golden file is on the page, with the same bytes."""
    examples = dict(re.findall(r"^\| ([^|]+) \| .* \| `([0-9a-f]+)` \|$", section("Examples"), re.MULTILINE))
    assert examples == GOLDEN["values"]
    for data in GOLDEN["frames"].values():
        assert f"`{data}`" in section("Frames")


def test_every_leaf_and_container_is_in_its_table() -> None:
    """The tables have all extension types and all markers, and none that does not exist."""
    assert first_numbers(section("Leaves")) == {MARKER_CODE, *READERS, *_BY_CODE}
    assert first_numbers(section("Containers")) == {code[0] for code in MARKERS}


def test_every_message_kind_is_on_the_page() -> None:
    """The table of messages has every kind with its number, and no other."""
    stated = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", section("Messages"), re.MULTILINE)
    assert {name: int(number) for number, name in stated} == {kind.name: kind.value for kind in Kind}


def test_the_limits_and_the_version_are_those_of_the_code() -> None:
    """The page tells each limit with its default, and the version."""
    stated = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", section("Limits"), re.MULTILINE))
    assert {name: int(number.replace(",", "")) for name, number in stated.items()} == dataclasses.asdict(DEFAULT_LIMITS)
    assert f"version **{PROTOCOL_VERSION}**" in PAGE
