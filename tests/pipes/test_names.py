"""From names to places."""

from __future__ import annotations

from typing import Any

import pytest

from cloister.errors import BadName
from cloister.pipes.names import check_name, posix_place, runtime_directory, windows_place


def test_our_style_puts_socket_and_lock_into_the_private_folder() -> None:
    """A name of ours lies in the runtime folder, with its lock beside it."""
    place = posix_place("alarms", "cloister", {"CLOISTER_RUNTIME_DIR": "/run/mine"}, 7)
    assert (place.path, place.lock_path) == ("/run/mine/alarms.pipe", "/run/mine/alarms.lock")
    assert place.private


def test_a_name_that_looks_like_a_lock_meets_no_lock() -> None:
    """The files of one name are never those of another, whatever the names end with."""
    names = ["a", "a.lock", "a.pipe", "a.pipe.lock"]
    places = [posix_place(name, "cloister", {}, 7) for name in names]
    files = [file for place in places for file in (place.path, place.lock_path)]
    assert len(set(files)) == len(files)


def test_the_runtime_folder_follows_the_environment() -> None:
    """Our own variable comes first, then the user's runtime folder, then /tmp; an empty one counts as not set."""
    assert runtime_directory({"CLOISTER_RUNTIME_DIR": "/a", "XDG_RUNTIME_DIR": "/b"}, 7) == "/a"
    assert runtime_directory({"CLOISTER_RUNTIME_DIR": "", "XDG_RUNTIME_DIR": "/b"}, 7) == "/b/cloister"
    assert runtime_directory({"XDG_RUNTIME_DIR": ""}, 7) == "/tmp/cloister-7"


def test_a_relative_runtime_folder_is_refused() -> None:
    """A relative path would depend on the working folder, so it is an error that names the variable."""
    with pytest.raises(BadName, match="XDG_RUNTIME_DIR"):
        runtime_directory({"XDG_RUNTIME_DIR": "run"}, 7)


def test_dotnet_style_follows_dotnet() -> None:
    """A .NET name lies where .NET puts it, an absolute path is used as it is, the lock stays in our folder."""
    environ = {"TMPDIR": "/var/tmp", "CLOISTER_RUNTIME_DIR": "/run/mine"}
    place = posix_place("alarms", "dotnet", environ, 7)
    assert place.path == "/var/tmp/CoreFxPipe_alarms"
    assert place.lock_path.startswith("/run/mine/dotnet-")
    assert not place.private
    assert posix_place("alarms", "dotnet", {}, 7).path == "/tmp/CoreFxPipe_alarms"
    assert posix_place("/srv/app.sock", "dotnet", environ, 7).path == "/srv/app.sock"
    assert posix_place("/srv/other.sock", "dotnet", environ, 7).lock_path != place.lock_path


def test_dotnet_paths_have_107_bytes_at_most() -> None:
    """A path of 107 bytes passes, one of 108 is refused with the rule; bytes count, not characters."""
    stem = "/tmp/CoreFxPipe_"
    assert posix_place("x" * (107 - len(stem)), "dotnet", {}, 7)
    with pytest.raises(BadName, match=r"108 bytes.*107"):
        posix_place("x" * (108 - len(stem)), "dotnet", {}, 7)
    with pytest.raises(BadName, match="107"):
        posix_place("ü" * 50, "dotnet", {}, 7)


def test_a_folder_whose_name_is_no_text_is_counted_in_bytes() -> None:
    """A TMPDIR that is no UTF-8 is a folder like any other."""
    tmpdir = b"/tmp/\xff".decode(errors="surrogateescape")
    assert posix_place("x", "dotnet", {"TMPDIR": tmpdir}, 7).path == f"{tmpdir}/CoreFxPipe_x"
    with pytest.raises(BadName, match="108 bytes"):
        posix_place("x" * 90, "dotnet", {"TMPDIR": tmpdir}, 7)


def test_a_relative_tmpdir_is_refused_for_dotnet() -> None:
    """A relative TMPDIR can't be met by another program."""
    with pytest.raises(BadName, match="TMPDIR"):
        posix_place("x", "dotnet", {"TMPDIR": "tmp"}, 7)


@pytest.mark.parametrize("style", ["cloister", "dotnet"])
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "empty"),
        ("anonymous", "reserved"),
        ("Anonymous", "reserved"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("\ud800", "surrogate"),
        ("a/b", "'/'|slash"),
    ],
)
def test_an_impossible_name_is_refused_with_its_rule(name: str, rule: str, style: Any) -> None:
    """Empty, reserved, unprintable names and paths are refused, and the message says the rule."""
    with pytest.raises(BadName, match=rule):
        check_name(name, style)


@pytest.mark.parametrize(
    ("name", "rule"),
    [("..", "dot"), (".hidden", "dot"), ("/abs", "slash"), ("a\\b", "slash"), ("x" * 81, "81 bytes")],
)
def test_our_style_refuses_more(name: str, rule: str) -> None:
    """In our style a name is one visible word that any file system takes."""
    with pytest.raises(BadName, match=rule):
        check_name(name)
    check_name("x" * 80)
    check_name("경보 1")


def test_a_dotnet_path_to_a_folder_is_refused() -> None:
    """An absolute path that ends with a slash names no socket."""
    with pytest.raises(BadName, match="folder"):
        check_name("/tmp/", "dotnet")


def test_what_is_no_name_at_all_is_refused() -> None:
    """A name of another type, and an unknown style, are errors of the caller."""
    with pytest.raises(TypeError, match="bytes"):
        check_name(b"x")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(ValueError, match="style"):
        check_name("x", "unix")  # type: ignore[arg-type]  # the point of the test


def test_windows_names_carry_the_user_in_our_style() -> None:
    """On Windows names are global, so ours carry the user; .NET's do not; the limit is 256 characters."""
    assert windows_place("a", "cloister", "S-1-5").path == r"\\.\pipe\cloister-S-1-5-a"
    assert windows_place("a", "dotnet", "S-1-5").path == r"\\.\pipe\a"
    with pytest.raises(BadName, match="256"):
        windows_place("x" * 250, "dotnet", "S-1-5")
    for path in ("/abs", "a\\b"):
        with pytest.raises(BadName, match="slash"):
            windows_place(path, "dotnet", "S-1-5")
