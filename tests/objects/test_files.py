"""Files over the wall: a host's open file travels with its descriptor, a guest's is used where it is."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import socket
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, MarshalError
from cloister.objects.files import Arrivals, pack, unpack
from cloister.report import Reason
from tests.patience import wait_until

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors travel where there are Unix sockets")


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A file with a hundred lines."""
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"zeile {number} ü\n" for number in range(100)), encoding="utf-8")
    return path


# -- from the guest --------------------------------------------------------------------------------------------------


def test_file_of_the_guest_is_used_like_a_file(domain: cloister.Domain, text_file: Path) -> None:
    """A file that the guest opened is read, searched and iterated over; it is an `io` file for `isinstance`."""
    expected = text_file.read_bytes()
    with domain.call("papers:opened", str(text_file)) as file:
        assert isinstance(file, io.IOBase)
        assert isinstance(file, io.BufferedIOBase)
        assert not isinstance(file, io.TextIOBase)
        assert file.read(10) == expected[:10]
        assert file.tell() == 10
        assert file.seek(0) == 0
        assert file.readline() == expected.splitlines(keepends=True)[0]
        assert file.seek(-5, io.SEEK_END) == len(expected) - 5
        assert file.read() == expected[-5:]
        assert file.read() == b""
        file.seek(0)
        assert b"".join(file) == expected
        buffer = bytearray(20)
        file.seek(0)
        assert file.readinto(buffer) == 20
        assert bytes(buffer) == expected[:20]
        assert file.readable()
        assert not file.writable()
        assert not file.closed
        with pytest.raises(io.UnsupportedOperation, match="another domain"):
            file.fileno()
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
    assert file.closed
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        file.read()


def test_lines_that_were_read_ahead_are_not_lost(domain: cloister.Domain, text_file: Path) -> None:
    """Reading, telling and seeking after iterating go on where the reader is, not where the batch ended."""
    expected = text_file.read_bytes()
    lines = expected.splitlines(keepends=True)
    with domain.call("papers:opened", str(text_file)) as file:
        last = list(itertools.islice(file, 30))[-1]
        assert last == lines[29]
        assert file.tell() == len(b"".join(lines[:30]))
        assert file.read(3) == lines[30][:3]
        assert file.readline() == lines[30][3:]
        assert file.readline(4) == lines[31][:4]
        assert file.seek(2, io.SEEK_CUR) == len(b"".join(lines[:31])) + 6
        some = b"".join(file.readlines(10))
        assert len(some) >= 10
        assert file.read() == expected[len(b"".join(lines[:31])) + 6 + len(some) :]
    with domain.call("papers:opened", str(text_file), "r", encoding="utf-8") as text:
        for _ in range(30):
            next(text)
        with pytest.raises(OSError, match="telling position disabled"):
            text.tell()
        assert text.readline() == lines[30].decode()
        assert text.read() == b"".join(lines[31:]).decode()


def test_file_of_the_guest_is_written(domain: cloister.Domain, tmp_path: Path) -> None:
    """Bytes, other buffers, lines and more than one piece are written; text goes to text files."""
    path = tmp_path / "out"
    with domain.call("papers:opened", str(path), "wb") as file:
        assert file.write(b"one") == 3
        assert file.write(memoryview(bytearray(b"two"))) == 3
        file.writelines([b"a\n", b"b\n"])
        assert file.write(b"x" * 3_000) == 3_000
    assert path.read_bytes() == b"onetwoa\nb\n" + b"x" * 3_000
    with domain.call("papers:opened", str(path), "r+b") as file:
        assert next(file) == b"onetwoa\n"
        file.truncate(8)
    assert path.read_bytes() == b"onetwoa\n"
    with domain.call("papers:opened", str(path), "w", encoding="utf-16") as text:
        assert isinstance(text, io.TextIOBase)
        assert text.write("grüße") == 5
    assert path.read_text(encoding="utf-16") == "grüße"


def test_standard_library_takes_the_file_of_a_guest(domain: cloister.Domain, text_file: Path) -> None:
    """`shutil.copyfileobj`, `io.BufferedReader` and `io.TextIOWrapper` work on it, also on one without a descriptor."""
    expected = text_file.read_bytes()
    copy = io.BytesIO()
    shutil.copyfileobj(domain.call("papers:opened", str(text_file)), copy)
    assert copy.getvalue() == expected
    with io.TextIOWrapper(domain.call("papers:memory", expected), "utf-8") as text:
        assert text.read() == expected.decode()
    with io.BufferedReader(domain.call("papers:opened", str(text_file), "rb", buffering=0)) as buffered:
        assert buffered.peek(3)[:3] == expected[:3]
        assert buffered.read() == expected
    with zipfile.ZipFile(domain.call("papers:memory", zipped(b"content"))) as archive:
        assert archive.read("member") == b"content"


def zipped(content: bytes) -> bytes:
    """An archive with one member."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("member", content)
    return made.getvalue()


def test_large_file_is_read_and_written_in_pieces(
    setup: cloister.Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that is larger than one piece nothing is lost, whatever the size asked for."""
    monkeypatch.delenv("CLOISTER_LANE_READ_BYTES", raising=False)
    path = tmp_path / "large"
    data = os.urandom(2_500_000)
    path.write_bytes(data)
    with cloister.Domain("large", setup=setup) as domain, domain.call("papers:opened", str(path)) as file:
        assert file.read() == data
        file.seek(0)
        assert file.read(2_000_000) == data[:2_000_000]
        assert file.read(2_000_000) == data[2_000_000:]
        with domain.call("papers:opened", str(tmp_path / "copy"), "wb") as copy:
            assert copy.write(data) == len(data)
    assert (tmp_path / "copy").read_bytes() == data


# -- from the host: the descriptor travels ---------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(
    ("mode", "options", "kind"),
    [
        ("rb", {}, "BufferedReader"),
        ("rb", {"buffering": 0}, "FileIO"),
        ("r+b", {}, "BufferedRandom"),
        ("r", {"encoding": "utf-8"}, "TextIOWrapper"),
        ("r", {"encoding": "latin-1"}, "TextIOWrapper"),
    ],
)
def test_open_file_arrives_as_what_it_is(
    domain: cloister.Domain, text_file: Path, mode: str, options: Any, kind: str
) -> None:
    """The guest gets a file of the same kind, at the same position; the position is one for both."""
    with open(text_file, mode, **options) as file:
        said = [kind, str(text_file), mode if mode != "r+b" else "rb+", options.get("encoding"), True, "+" in mode]
        assert domain.call("papers:facts", file) == [*said, False]
        first = file.readline()
        here = file.tell()
        with open(text_file, mode, **options) as other:
            rest = other.read()[len(first) :]
        assert (
            domain.call("papers:read", file, 7 if kind == "FileIO" else -1) == rest[: 7 if kind == "FileIO" else None]
        )
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) > here


@posix
def test_file_is_written_by_the_guest(domain: cloister.Domain, tmp_path: Path) -> None:
    """What the host wrote before comes first, although it was buffered; closing the guest's file leaves the host's."""
    path = tmp_path / "out"
    with open(path, "wb") as file:
        file.write(b"host ")
        assert domain.call("papers:write", file, b"guest ") == 6
        file.write(b"host")
    assert path.read_bytes() == b"host guest host"
    with open(path, "a", encoding="utf-8") as text:
        assert domain.call("papers:write", text, " ü") == 2
    with tempfile.NamedTemporaryFile() as temporary:
        temporary.write(b"abc")
        domain.call("papers:write", temporary, b"def")
        temporary.seek(0)
        assert temporary.read() == b"abcdef"
    assert path.read_bytes() == "host guest host ü".encode()


@posix
def test_pipes_and_sockets_travel(domain: cloister.Domain) -> None:
    """The guest reads the host's pipe, and talks on its socket."""
    reader, writer = os.pipe()
    with open(reader, "rb") as file:
        os.write(writer, b"through a pipe")
        os.close(writer)
        assert domain.call("papers:read", file) == b"through a pipe"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(3)
        assert domain.call("papers:say", theirs, b"hello") == [socket.AF_UNIX, socket.SOCK_STREAM, 3.0]
        theirs.close()
        assert ours.recv(10) == b"hello"
        assert ours.recv(10) == b""


@posix
def test_no_descriptor_is_left_behind(setup: cloister.Setup, text_file: Path) -> None:
    """What the guest drops is closed, so is what was never sent, and what a call that was given up left behind."""
    watchdog = cloister.Watchdog(beat=0.05)
    with cloister.Domain("tidy", setup=setup, watchdog=watchdog) as domain, open(text_file, "rb") as file:
        domain.call("papers:ignore", file)
        before = domain.call("papers:descriptors")
        for _ in range(10):
            domain.call("papers:ignore", file, file)
            with pytest.raises(MarshalError):
                domain.call("papers:ignore", file, object())
        wait_until(lambda: domain.call("papers:descriptors") <= before)
        with pytest.raises(CallTimeout), cloister.timeout(0.2):
            domain.call("time:sleep", 60)
        assert domain.call("papers:read", file) == text_file.read_bytes()


@posix
def test_closed_file_is_refused(domain: cloister.Domain, text_file: Path) -> None:
    """A closed file, or one whose position can't be told, is a MarshalError that says so."""
    with open(text_file, encoding="utf-8") as text:
        next(text)
        with pytest.raises(MarshalError, match="telling position"):
            domain.call("papers:read", text)
    with pytest.raises(MarshalError, match="closed file"):
        domain.call("papers:read", text)


@posix
def test_arrivals_are_taken_once_and_forgotten() -> None:
    """A descriptor is taken once; those that nobody takes are closed; rubbish makes no file and leaks nothing."""
    arrivals = Arrivals()
    reader, writer = os.pipe()
    arrivals.take_in(1, reader)
    arrivals.take_in(2, writer)
    arrivals.forget([2, 3])
    with pytest.raises(OSError, match="descriptor"):
        os.write(writer, b"x")
    taken = arrivals.take(1)
    arrivals.take_in(4, None)
    with pytest.raises(MarshalError, match="may open no more"):
        arrivals.take(4)
    for parts in ([], ["raw", "rb"], ["nothing", "rb", "x"], ["text", 1], ["socket", "a", 1, 1, None]):
        with pytest.raises(MarshalError):
            unpack(os.dup(taken), parts)
    os.close(taken)
    assert pack(object()) is None
    assert pack(io.BytesIO()) is None


@posix
def test_guest_that_may_open_no_more_says_so(setup: cloister.Setup, text_file: Path) -> None:
    """A file that the guest has no descriptor for fails its call at once, and nothing else."""
    with cloister.Domain("full", setup=setup) as domain, open(text_file, "rb") as file:
        domain.call("papers:allow_descriptors", False)
        with pytest.raises(MarshalError, match="may open no more"):
            domain.call("papers:read", file)
        domain.call("papers:allow_descriptors", True)
        assert domain.call("papers:read", file) == text_file.read_bytes()


# -- from the host: a file without a descriptor ----------------------------------------------------------------------


def test_file_without_a_descriptor_is_used_where_it_is(domain: cloister.Domain) -> None:
    """A BytesIO, a StringIO and a member of an archive are read by the guest where they are, as files and no more."""
    memory = io.BytesIO("eins\nzwei ü\n".encode())
    assert domain.call("papers:read", memory, 5) == b"eins\n"
    assert memory.tell() == 5
    memory.seek(0)
    assert domain.call("papers:lines", memory) == [b"eins\n", "zwei ü\n".encode()]
    assert domain.call("papers:lines", io.StringIO("a\nb")) == ["a\n", "b"]
    memory.seek(0)
    assert domain.call("papers:grasp", memory) == []
    assert domain.call("papers:wrapped", memory) == "eins\nzwei ü\n"
    assert memory.closed
    with zipfile.ZipFile(io.BytesIO(zipped(b"content"))) as archive, archive.open("member") as member:
        assert domain.call("papers:read", member) == b"content"
    target = io.BytesIO()
    domain.call("shutil:copyfileobj", io.BytesIO(b"copied"), target)
    assert target.getvalue() == b"copied"


def test_guest_sends_no_descriptor(setup: cloister.Setup) -> None:
    """A reference that names a descriptor ends the guest that sent it."""
    domain = cloister.Domain("sender", setup=setup)
    with pytest.raises(cloister.DomainCrashed) as crash:
        domain.call("hostile:reference", [3, 1, ["raw", "rb", "x"]])
    assert crash.value.report.reason is Reason.BAD_MESSAGE
