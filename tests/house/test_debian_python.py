"""How the mirror of Debian is read from apt's sources, in both of their formats."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Debian is Linux")

TOOLS = Path(__file__).parent.parent.parent / "tools"

MirrorOf = Callable[[list[str], str], tuple[str, str | None] | None]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the tool, not run as a program."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return runpy.run_path(str(TOOLS / "debian_python.py"))


@pytest.fixture
def mirror_of(tool: dict[str, Any]) -> MirrorOf:
    """The function that reads apt's sources."""
    function: MirrorOf = tool["mirror_of"]
    return function


STANZAS = """\
# Two mirrors of one distribution.
Types: deb deb-src
URIs: https://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
# where it comes from
URIs: https://mirror.example/debian https://spare.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian.gpg
"""


def test_a_mirror_is_read_from_stanzas(mirror_of: MirrorOf) -> None:
    """The first address and the key of the stanza that has the suite itself; updates and security don't count."""
    assert mirror_of([STANZAS], "bookworm") == ("https://mirror.example/debian", "/usr/share/keyrings/debian.gpg")


@pytest.mark.parametrize("suite", ["bookworm", "testing", "stable"])
def test_a_mirror_is_read_from_lines(mirror_of: MirrorOf, suite: str) -> None:
    """Options in brackets are no address; source code and other vendors' suites don't count."""
    text = (
        "deb-src https://mirror.example/sources bookworm main\n"
        "deb https://other.example/apt tool-bookworm main\n"
        f"deb [arch=amd64 signed-by=/etc/key.gpg] https://mirror.example/debian {suite} main contrib # first\n"
    )
    assert mirror_of(["", text], "bookworm") == ("https://mirror.example/debian", "/etc/key.gpg")


def test_a_mirror_without_a_key_relies_on_those_of_apt(mirror_of: MirrorOf) -> None:
    """No signed-by is no key of its own."""
    assert mirror_of(["deb https://mirror.example/debian bookworm main\n"], "bookworm") == (
        "https://mirror.example/debian",
        None,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# deb https://mirror.example/debian bookworm main\n",
        "deb https://mirror.example/debian bookworm contrib\n",
        "deb https://mirror.example/flat ./\n",
        STANZAS.replace("URIs: https://mirror", "Enabled: no\nURIs: https://mirror"),
    ],
)
def test_no_mirror_is_made_up(mirror_of: MirrorOf, text: str) -> None:
    """Without a source that is switched on and has the suite with its main part, there is none."""
    assert mirror_of([text], "bookworm") is None


def test_a_key_in_the_stanza_stays_whole(mirror_of: MirrorOf) -> None:
    """A key may be written out over many lines, each beginning with a space; it is passed on as it is."""
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----"
    found = mirror_of([STANZAS.replace(" /usr/share/keyrings/debian.gpg", key)], "bookworm")
    assert found == ("https://mirror.example/debian", key)


def test_another_distribution_is_left_alone(tool: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Debian isn't, and no such Python is found, the reason is said and no program of apt is run."""
    names = tool["python_from_debian"].__globals__
    monkeypatch.setitem(names, "find_python", lambda version: None)
    monkeypatch.setattr(names["platform"], "freedesktop_os_release", lambda: {"ID": "other"})
    with pytest.raises(tool["PythonUnavailable"], match="this is not Debian"):
        tool["python_from_debian"]()
