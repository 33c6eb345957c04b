"""Where packages come from: uv's own configuration, else pip's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloister.environments.sources import variables
from cloister.environments.spec import named, spec_of


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Variables of a user who has configured nothing yet, on a machine that has not either."""
    return {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_CONFIG_DIRS": str(tmp_path),
        "PIP_TIMEOUT": "9",
    }


def write(folder: str, name: str, text: str) -> None:
    """Write a file of configuration."""
    path = Path(folder, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_what_pip_was_told_in_a_file_reaches_uv(home: dict[str, str]) -> None:
    """Index, further indexes over several lines, folders; several indexes are then one big one, as for pip."""
    write(
        home["HOME"],
        "pip/pip.conf",
        "[global]\nindex-url = http://i\nextra-index-url =\n  http://a\n  http://b\n"
        "[install]\nfind_links = /one /two\n",
    )
    added, sources = variables(home)
    assert added["UV_DEFAULT_INDEX"] == "http://i"
    assert added["UV_INDEX"] == "http://a http://b"
    assert added["UV_FIND_LINKS"] == "/one,/two"
    assert added["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert added["UV_HTTP_TIMEOUT"] == "9"
    assert "UV_DEFAULT_INDEX=http://i" in sources
    assert not any("TIMEOUT" in source for source in sources)


def test_variables_of_pip_come_before_its_files(home: dict[str, str]) -> None:
    """`PIP_INDEX_URL` wins over the file; `PIP_NO_INDEX=0` is no."""
    write(home["HOME"], "pip/pip.conf", "[global]\nindex-url = http://file\n")
    added, _ = variables({**home, "PIP_INDEX_URL": "http://variable", "PIP_NO_INDEX": "0"})
    assert added["UV_DEFAULT_INDEX"] == "http://variable"
    assert "UV_NO_INDEX" not in added
    assert variables({**home, "PIP_NO_INDEX": "1"})[0]["UV_NO_INDEX"] == "1"


@pytest.mark.parametrize("how", ["variable", "file"])
def test_uv_that_was_told_itself_is_left_alone(home: dict[str, str], how: str) -> None:
    """Where uv has indexes of its own, pip's are not added; certificates and times still are."""
    write(home["HOME"], "pip/pip.conf", "[global]\nindex-url = http://pip\ncert = /c.pem\n")
    if how == "variable":
        home["UV_INDEX"] = "http://uv"
    else:
        write(home["HOME"], "uv/uv.toml", 'index-url = "http://uv"\n')
    added, sources = variables(home)
    assert not {"UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_INDEX_STRATEGY"} & set(added)
    assert (added["SSL_CERT_FILE"], added["UV_HTTP_TIMEOUT"]) == ("/c.pem", "9")
    assert "http://uv" in str(sources)


def test_broken_configuration_files_are_left_to_their_programs(home: dict[str, str]) -> None:
    """Files that do not parse are passed over here."""
    before = variables(home)
    write(home["HOME"], "pip/pip.conf", "no section\n")
    write(home["HOME"], "uv/uv.toml", "= 3\n")
    assert variables(home) == before


def test_key_depends_on_what_makes_the_environment(home: dict[str, str]) -> None:
    """Order and blanks do not matter; requirement, Python, and sources do; the password of an index is in no key."""
    key = spec_of(["a", "b"], None, home).key
    assert spec_of([" b", "a "], None, home).key == key
    other = {
        spec_of(["a"], None, home).key,
        spec_of(["a", "b"], "3.12", home).key,
        spec_of(["a", "b"], os.devnull, home).key,
        spec_of(["a", "b"], None, {**home, "UV_INDEX": "http://u:secret@h"}).key,
    }
    assert len(other | {key}) == 5
    assert "secret" not in str(other)


@pytest.mark.parametrize(
    ("requirement", "name"),
    [("Num_Py<2", "num-py"), ("a[x]>=1; python_version>'3'", "a"), ("a @ http://h/a.whl", "a"), ("./a.whl", "")],
)
def test_name_of_a_requirement(requirement: str, name: str) -> None:
    """The name is that by which indexes know it."""
    assert named(requirement) == name
