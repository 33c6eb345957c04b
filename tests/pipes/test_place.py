"""The place of a pipe: folders, links, owners, stale files, the lock."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloister import pipes
from cloister.errors import BadName, NameTaken, NotConnected, PipeError, PipeTimeout
from cloister.pipes import place_posix
from tests.pipes.ends import Background

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

STRANGER = 12345
"""A user that is not us."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of this test alone; it does not exist yet."""
    place = tmp_path / "run"
    monkeypatch.setenv("CLOISTER_RUNTIME_DIR", str(place))
    return place


def refused(match: str, name: str = "x", style: pipes.Style = "cloister") -> None:
    """Both sides refuse the place, for this reason, and the server leaves nothing."""
    with pytest.raises(BadName, match=match):
        pipes.PipeServer(name, style=style)
    with pytest.raises(BadName, match=match):
        pipes.connect(name, 5, style=style)


# -- what is made -----------------------------------------------------------------------------------------------------


def test_folder_socket_and_lock_are_private_and_go_with_the_server(folder: Path) -> None:
    """Whatever the umask, the folder has mode 0700, socket and lock have 0600, and both go with the server."""
    old = os.umask(0)
    try:
        with pipes.PipeServer("x") as server:
            modes = [stat.S_IMODE(os.lstat(path).st_mode) for path in (folder, server.path, server._place.lock_path)]
        assert modes == [0o700, 0o600, 0o600]
        with pipes.PipeServer("x", style="dotnet") as server:
            assert stat.S_IMODE(os.lstat(server.path).st_mode) == 0o600
        with pipes.PipeServer("x", style="dotnet", current_user_only=False) as server:
            assert stat.S_IMODE(os.lstat(server.path).st_mode) == 0o666
    finally:
        os.umask(old)
    assert list(folder.iterdir()) == []


def test_a_dotnet_server_leaves_nothing_either(tmp_path: Path, folder: Path) -> None:
    """Neither the socket nor its lock stays, also at an absolute path."""
    path = tmp_path / "app.sock"
    with pipes.PipeServer(str(path), style="dotnet"), pipes.connect(str(path), 5, style="dotnet"):
        assert path.is_socket()
    assert not path.exists()
    assert list(folder.iterdir()) == []


def test_a_socket_that_is_not_ours_any_more_is_left_alone(folder: Path) -> None:
    """A server removes its socket at the end only while it is still its own."""
    with pipes.PipeServer("x") as server:
        path = Path(server.path)
        path.unlink()
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


def test_a_path_of_any_length_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the path is longer than a socket address, both sides reach it through the folder."""
    deep = tmp_path
    while len(str(deep)) < 150:
        deep /= "a-long-name-of-a-folder"
    deep.mkdir(parents=True)
    monkeypatch.setenv("CLOISTER_RUNTIME_DIR", str(deep / "run"))
    name = "x" * 80  # the longest
    with pipes.PipeServer(name, max_instances=1) as server:
        for _ in range(2):  # the second is listened for anew
            with pipes.connect(name, 5) as client, server.accept(5) as served:
                client.write_message(b"x")
                assert served.read_message(5) == b"x"
    assert list((deep / "run").iterdir()) == []


@pytest.mark.parametrize("length", [10, 150])
def test_a_folder_whose_name_is_no_text_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """A folder named in bytes that are no UTF-8 holds pipes like any other, on a short path and on a long one."""
    monkeypatch.setenv("CLOISTER_RUNTIME_DIR", os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + b"x" * length))
    with pipes.PipeServer("a") as server, pipes.connect("a", 5) as client, server.accept(5):
        assert "a" in repr(server)
        assert client.peer.pid == os.getpid()


# -- what is found ----------------------------------------------------------------------------------------------------


def test_a_folder_open_to_others_is_refused(folder: Path) -> None:
    """A runtime folder that others may enter is not used by either side."""
    folder.mkdir()
    folder.chmod(0o755)
    refused("mode 0755")


def test_a_symbolic_link_is_no_folder(folder: Path, tmp_path: Path) -> None:
    """A link to a folder is refused, even to a good one."""
    (tmp_path / "real").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "real")
    refused("symbolic link")


def test_a_file_is_no_folder(folder: Path) -> None:
    """A file in the place of the folder is refused."""
    folder.touch()
    refused("no folder")


def test_a_missing_parent_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A runtime folder without a parent is not made; a client takes it for a server that is not there yet."""
    monkeypatch.setenv("CLOISTER_RUNTIME_DIR", str(tmp_path / "none" / "run"))
    with pytest.raises(BadName, match="does not exist"):
        pipes.PipeServer("x")
    with pytest.raises(NotConnected):
        pipes.connect("x", 0)


def test_a_parent_where_others_can_replace_the_folder_is_refused(folder: Path) -> None:
    """In a folder that everybody may write, without the sticky bit, ours could be exchanged."""
    folder.parent.chmod(0o777)
    refused("replace")
    folder.parent.chmod(0o1777)
    with pipes.PipeServer("x"):
        pass


@needs_root
@pytest.mark.parametrize("what", ["folder", "parent"])
def test_a_folder_of_another_user_is_refused(folder: Path, what: str) -> None:
    """A runtime folder that belongs to somebody else, or lies in somebody else's, is not used."""
    folder.mkdir(mode=0o700)
    os.chown(folder if what == "folder" else folder.parent, STRANGER, STRANGER)
    refused("belongs to user 12345" if what == "folder" else "replace")


@pytest.mark.parametrize("style", ["cloister", "dotnet"])
def test_a_symbolic_link_is_no_pipe(folder: Path, tmp_path: Path, style: pipes.Style) -> None:
    """A link at the place of the pipe is neither followed nor removed, even when it leads to a living server."""
    with pipes.PipeServer("real") as real:
        name = "x" if style == "cloister" else str(tmp_path / "x.sock")
        link = folder / "x.pipe" if style == "cloister" else Path(name)
        link.symlink_to(real.path)
        refused("symbolic link", name, style)
        assert link.is_symlink()


@pytest.mark.parametrize("style", ["cloister", "dotnet"])
def test_a_file_in_the_way_is_not_removed(folder: Path, tmp_path: Path, style: pipes.Style) -> None:
    """A file at the place of the pipe is not ours to remove, unlike with .NET."""
    folder.mkdir(mode=0o700)
    name = "x" if style == "cloister" else str(tmp_path / "x.sock")
    file = folder / "x.pipe" if style == "cloister" else Path(name)
    file.write_text("precious")
    refused("not a socket", name, style)
    assert file.read_text() == "precious"


def test_the_mode_of_a_socket_is_not_set_through_a_link(tmp_path: Path) -> None:
    """What somebody else puts in the place of a socket that was just made is not opened to others."""
    victim, link, path = tmp_path / "victim", tmp_path / "link", tmp_path / "socket"
    victim.touch(0o600)
    link.symlink_to(victim)
    for trap in (link, victim):
        with pytest.raises(OSError, match="something else"):
            place_posix.set_mode(str(trap), 0o666)
    assert victim.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        place_posix.set_mode(str(path), 0o640)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_full_disk_does_not_keep_a_server_from_its_name(folder: Path) -> None:
    """Where no byte can be written, the name is served and kept all the same: the lock needs none."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pipes.PipeServer("x") as server:
            with pipes.connect("x", 5), server.accept(5):
                pass
            with pytest.raises(NameTaken, match="another server"):
                pipes.PipeServer("x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, lambda p: p.symlink_to("/etc/passwd"), os.mkfifo])
def test_a_lock_that_is_no_file_is_refused(folder: Path, make: Callable[[Path], None]) -> None:
    """What is no plain file is not taken for a lock, and is not opened for ever."""
    folder.mkdir(mode=0o700)
    make(folder / "x.lock")
    with pytest.raises(BadName, match="no plain file"):
        pipes.PipeServer("x")


@pytest.mark.parametrize("style", ["cloister", "dotnet"])
def test_a_file_in_the_path_of_the_folder_is_reported(folder: Path, style: pipes.Style, monkeypatch: Any) -> None:
    """What the system says about a folder that can't be made is passed on, with its number."""
    folder.touch()
    monkeypatch.setenv("CLOISTER_RUNTIME_DIR", str(folder / "run"))
    with pytest.raises(PipeError, match="can't be made") as caught:
        pipes.PipeServer("x", style=style)
    assert caught.value.errno == errno.ENOTDIR


def test_a_lock_without_a_number_is_still_a_lock(folder: Path) -> None:
    """Where the lock does not tell its owner, the name is taken all the same."""
    with pipes.PipeServer("x") as server:
        Path(server._place.lock_path).write_text("rubbish")
        with pytest.raises(NameTaken, match="another server"):
            pipes.PipeServer("x")


def test_a_missing_folder_of_a_dotnet_path_is_explained(tmp_path: Path) -> None:
    """An absolute path into nowhere is an error for a server, and nobody there for a client."""
    name = str(tmp_path / "none" / "x.sock")
    with pytest.raises(BadName, match="does not exist"):
        pipes.PipeServer(name, style="dotnet")
    with pytest.raises(NotConnected):
        pipes.connect(name, 0, style="dotnet")
    (tmp_path / "none").touch()
    refused("no folder", name, "dotnet")


# -- who is there -----------------------------------------------------------------------------------------------------


def test_the_socket_of_a_killed_server_is_taken_over(folder: Path) -> None:
    """A server that was killed leaves its files; the next one takes the name at once, a client finds nobody before."""
    program = "from cloister import pipes; s = pipes.PipeServer('x'); print('up', flush=True); s.accept()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        with pytest.raises(NameTaken, match=f"process {child.pid}"):
            pipes.PipeServer("x")
        child.send_signal(signal.SIGKILL)
    assert sorted(entry.name for entry in folder.iterdir()) == ["x.lock", "x.pipe"]
    with pytest.raises(NotConnected):
        pipes.connect("x", 0)
    with pipes.PipeServer("x") as server, pipes.connect("x", 5), server.accept(5):
        pass
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("style", ["cloister", "dotnet"])
def test_a_living_server_without_a_lock_is_not_robbed(folder: Path, tmp_path: Path, style: pipes.Style) -> None:
    """A server that knows nothing of our lock, such as .NET's, keeps its name while it listens."""
    folder.mkdir(mode=0o700)
    name = "x" if style == "cloister" else str(tmp_path / "x.sock")
    path = str(folder / "x.pipe") if style == "cloister" else name
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(1)
        with pytest.raises(NameTaken, match="answers"):
            pipes.PipeServer(name, style=style)
        assert Path(path).is_socket()
    with pipes.PipeServer(name, style=style):
        pass


def test_a_client_that_asks_does_not_keep_a_server_from_starting(folder: Path) -> None:
    """Clients that wait for a server look at its lock all the time, and never make its name seem taken."""
    waiting = [Background(_ask_until, folder) for _ in range(2)]
    try:
        for _ in range(100):
            pipes.PipeServer("x").close()
    finally:
        (folder / "stop").touch()
        for each in waiting:
            each.result()


def _ask_until(folder: Path) -> None:
    place = pipes.pipe.native.find_place("x", "cloister")  # type: ignore[attr-defined]  # a module behind the interface
    while not (folder / "stop").exists():
        place_posix.is_claimed(place)


def test_a_name_that_another_server_binds_meanwhile_is_reported(folder: Path) -> None:
    """When a foreign server takes the place while an instance was not listened for, the next accept says so."""
    with pipes.PipeServer("x", max_instances=1) as server:
        client = pipes.connect("x", 5)
        served = server.accept(5)
        Path(server.path).unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(server.path)
            served.close()
            with pytest.raises(NameTaken):
                server.accept(0)
        client.close()


@needs_root
def test_a_server_of_another_user_is_refused_before_a_byte_is_sent(tmp_path: Path) -> None:
    """A client refuses a socket that another user owns, unless it says otherwise."""
    name = str(tmp_path / "x.sock")
    with pipes.PipeServer(name, style="dotnet") as server:
        os.chown(name, STRANGER, STRANGER)
        with pytest.raises(BadName, match="belongs to user 12345"):
            pipes.connect(name, 5, style="dotnet")
        with pipes.connect(name, 5, style="dotnet", current_user_only=False), server.accept(5):
            pass


@pytest.fixture
def market() -> Iterator[Path]:
    """A folder that every user may enter and write; the folders of pytest are closed to others."""
    place = Path(tempfile.mkdtemp(prefix="cloister-market-", dir="/tmp"))
    place.chmod(0o777)
    yield place
    shutil.rmtree(place)


@needs_root
def test_a_process_of_another_user_that_serves_is_refused(market: Path) -> None:
    """A client also asks the kernel who listens: a file that is ours does not make its server ours."""
    name = str(market / "x.sock")
    with stranger(
        f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind({name!r}); s.listen(); print('up', flush=True);"
        "sys.stdin.read()"
    ):
        os.chown(name, os.geteuid(), os.getegid())
        with pytest.raises(BadName, match="served by user 12345"):
            pipes.connect(name, 5, style="dotnet")


@needs_root
def test_a_client_of_another_user_is_refused_and_the_next_is_served(
    market: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger's connection is closed before a byte of it is read, logged, and does not end the accept."""
    name = str(market / "x.sock")
    with pipes.PipeServer(name, style="dotnet", max_instances=1) as server:
        Path(name).chmod(0o666)
        program = f"import socket; s = socket.socket(1); s.connect({name!r}); print('up', flush=True); s.recv(1)"
        with stranger(program), pytest.raises(PipeTimeout):
            server.accept(0.1)
        assert "user 12345" in caplog.text
        with pipes.connect(name, 5, style="dotnet") as client, server.accept(5) as served:
            client.write_message(b"x")
            assert served.read_message(5) == b"x"


@needs_root
def test_a_socket_that_lets_nobody_in_is_refused(market: Path) -> None:
    """A client without permission gets an error that says so, at once."""
    name = str(market / "x.sock")
    program = (
        f"try: pipes.connect({name!r}, 5, style='dotnet', current_user_only=False)\n"
        "except errors.BadName as error: print('up' if 'does not let' in str(error) else error, flush=True)"
    )
    with pipes.PipeServer(name, style="dotnet"), stranger(program):
        pass


@contextlib.contextmanager
def stranger(program: str) -> Iterator[None]:
    """Run a program as another user, from when it has printed "up" until its stdin is closed."""
    change = (
        "import os, socket, sys, threading, time; from cloister import pipes, errors\n"
        "pipes.connect, pipes.PipeServer  # that user may not read where Python is\n"
        f"os.setgroups([]); os.setgid({STRANGER}); os.setuid({STRANGER})\n"
    )
    command = [sys.executable, "-c", change + program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        yield
