"""Inspection: what some code has is told from its text alone, and hostile text is an error of its module."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import cloister
from cloister.inspection import places, reading
from cloister.inspection.reading import read_module
from tests.domain.journal import MODULES

TRAP = "import os\nos._exit(77)\nraise SystemExit\n"
"""Code that must not run."""

SOURCE = '''
"""What it is."""
import abc

if True:
    class Base(abc.ABC, metaclass=abc.ABCMeta):
        """A base."""

try:
    import nothing
except ImportError:
    def fallback(*args, key=1): ...
else:
    def other(): ...
finally:
    def last(): ...

@registered("x")
class Plugin(Base):
    """A plug-in."""
    version = 3
    size: int = 1

    def __init__(self, region: str = "eu", /, *rest: int, loud: bool = False) -> None: ...
    def old(self): ...
    def old(self, new): ...
    @property
    def name(self) -> str: "Its name."
    @name.setter
    def name(self, value): ...
    @staticmethod
    def twice(number): ...
    @classmethod
    async def of(cls): ...

    class Inner:
        def __init__(this): ...

async def fetch(url: str) -> bytes:
    """Gets it."""
    class Hidden: ...

if __name__ == "__main__":
    raise SystemExit(1)
'''


def test_a_file_is_listed_as_it_is_written(tmp_path: Path) -> None:
    """O15: classes, signatures, docstrings, decorators and the main program of a file, those under conditions too."""
    file = tmp_path / "plugin.py"
    file.write_text(TRAP + SOURCE.replace('"""What it is."""', ""), encoding="utf-8")
    found = cloister.inspect_code(file)
    assert (found.kind, found.errors) == ("file", {})
    (module,) = found.modules
    assert (module.name, module.path, module.is_program) == ("plugin", str(file), True)
    assert [each.name for each in module.functions] == ["fallback", "other", "last", "fetch"]
    fetch = module.functions[-1]
    assert (fetch.signature, fetch.doc, fetch.kind, fetch.is_async) == (
        "(url: str) -> bytes",
        "Gets it.",
        "function",
        True,
    )
    base, plugin, inner = module.classes
    assert (base.bases, base.doc) == (("abc.ABC", "metaclass=abc.ABCMeta"), "A base.")
    assert (plugin.decorators, plugin.bases, plugin.attributes) == (
        ("registered('x')",),
        ("Base",),
        ("version", "size"),
    )
    assert plugin.signature == "(region: str='eu', /, *rest: int, loud: bool=False)"
    assert (inner.name, inner.signature) == ("Plugin.Inner", "()")
    methods = {method.name: method for method in plugin.methods}
    assert methods["old"].signature == "(self, new)"
    assert [methods[name].kind for name in ("old", "name", "twice", "of")] == [
        "method",
        "property",
        "staticmethod",
        "classmethod",
    ]
    assert [name for name, _ in found.classes()] == ["plugin:Base", "plugin:Plugin", "plugin:Plugin.Inner"]
    assert [name for name, _ in found.functions()][-1] == "plugin:fetch"


def test_the_docstring_of_a_module_is_listed() -> None:
    """O15: a module says what it is."""
    assert read_module("plugin", "plugin.py", SOURCE.encode()).doc == "What it is."


def test_a_package_is_listed_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O15: a package and a module in it are found by name as an import would, and no file of it is run."""
    package = tmp_path / "acme" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "acme" / "__init__.py").write_text(TRAP)
    (package / "__init__.py").write_text(TRAP)
    (package / "things.py").write_text(TRAP + "class Thing: ...\n")
    (package / "__main__.py").write_text(TRAP)
    (package / "bad.py").write_text("class Broken(:\n")
    (package / "not-a-module.py").write_text(TRAP)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ["acme", "acme.inner", "acme.inner.__main__", "acme.inner.bad", "acme.inner.things"]
    by_path = cloister.inspect_code(tmp_path / "acme")
    by_name = cloister.inspect_code("acme")
    assert [module.name for module in by_path.modules] == [module.name for module in by_name.modules] == names
    assert (by_path.kind, by_name.kind, cloister.inspect_code(tmp_path).kind) == ("package", "package", "folder")
    assert [module.name for module in cloister.inspect_code(tmp_path).modules] == names
    assert [module.is_program for module in by_name.modules] == [False, False, True, False, False]
    assert list(by_name.errors) == ["acme.inner.bad"]
    assert by_name.errors["acme.inner.bad"].startswith("SyntaxError: ")
    assert by_name.errors["acme.inner.bad"].endswith(", line 1")
    thing = cloister.inspect_code("acme.inner.things")
    assert ([name for name, _ in thing.classes()], thing.kind) == (["acme.inner.things:Thing"], "file")
    assert [module.name for module in cloister.inspect_code("acme.inner").modules] == names[1:]
    assert not [name for name in sys.modules if name.startswith("acme")]


def test_a_wheel_is_listed_with_its_entry_points(tmp_path: Path) -> None:
    """O15: a wheel is read where it is: its modules, the entry points that it declares, its name and version."""
    wheel = tmp_path / "acme-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("acme/__init__.py", TRAP)
        archive.writestr("acme/plugins.py", "class Red:\n    def go(self, far: int) -> None: ...\n")
        archive.writestr("../outside.py", TRAP)
        archive.writestr("acme-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.2\n")
        archive.writestr(
            "acme-1.2.dist-info/entry_points.txt", "[acme.plugins]\nRed = acme.plugins:Red [extra]\n[bad]\nx = y:z\n"
        )
    found = cloister.inspect_code(wheel)
    assert (found.kind, found.distribution, found.version) == ("archive", "acme", "1.2")
    assert [module.name for module in found.modules] == ["acme", "acme.plugins"]
    assert found.modules[1].path == f"{wheel}/acme/plugins.py"
    assert [(each.group, each.name, each.target) for each in found.entry_points] == [
        ("acme.plugins", "Red", "acme.plugins:Red"),
        ("bad", "x", "y:z"),
    ]
    ((name, red),) = found.classes()
    assert (name, red.methods[0].signature) == ("acme.plugins:Red", "(self, far: int) -> None")


def test_an_installed_distribution_is_named() -> None:
    """O15: a package that is installed is listed with its version and entry points."""
    found = cloister.inspect_code("pytest")
    assert (found.distribution, found.version) == ("pytest", pytest.__version__)
    assert ("console_scripts", "pytest") in [(each.group, each.name) for each in found.entry_points]


def test_listing_does_not_import_what_a_domain_then_makes() -> None:
    """O15, S49: a class is found by inspection and made in a domain by the name that was listed, and not here."""
    found = cloister.inspect_code(Path(MODULES) / "customers.py")
    (name,) = [name for name, each in found.classes() if "cloister.by_reference" in each.decorators]
    with cloister.Domain("shop", setup=cloister.Setup(path=[MODULES])) as domain:
        assert domain.create(name).list() == []
        assert domain.call(cloister.inspect_code, str(Path(MODULES) / "customers.py")) == found
    assert "customers" not in sys.modules


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (b"x = " + b"(" * 100_000, "nested"),
        (b"x" + b".a" * 200_000, "nested too deep"),
        (b"x = " + b"-" * 200_000 + b"1", "nested too deep"),
        (b"x = " + b"1+" * 100_000 + b"1", "nested too deep"),
        (b"".join(b" " * at + b"if x:\n" for at in range(90)) + b" " * 90 + b"pass\n", "more than 50 deep"),
        (b"".join(b" " * at + b"class A:\n" for at in range(90)) + b" " * 90 + b"pass\n", "more than 50 deep"),
        (b"a = 1\0", "null bytes"),
        (b"\xff\xfe\x00", "SyntaxError"),
        (b"# coding: rot13\nx = 1\n", "rot13"),
        (b"def f(): ...\n" * 10_001, "more than 10,000 classes and functions"),
        (b"#" * (reading.MAX_SOURCE + 1), "more than 8,388,608 are not read"),
        (b"def f(:\n", "SyntaxError: "),
    ],
    ids=("brackets attributes minuses sums conditions classes NUL encoding codec functions size syntax".split()),
)
def test_a_hostile_source_is_an_error_of_its_module(source: bytes, why: str) -> None:
    """O15: what is no Python, too large or nested too deep is named; nothing is raised and the process goes on."""
    module = read_module("hostile", "hostile.py", source)
    assert why in module.error
    assert not module.classes
    assert not module.functions


def test_a_long_source_without_depth_is_listed() -> None:
    """O15: a chain of eighty conditions, long texts and lone surrogates are listed, the texts cut."""
    source = "if x:\n    def first(): ...\n" + "elif x:\n    def other(): ...\n" * 80
    source += f"def long(a={'x' * 5000!r}):\n    '''{'y' * 50_000}'''\nclass A:\n    '\\ud800'\n"
    module = read_module("long", "long.py", source.encode())
    assert not module.error
    long = module.functions[-1]
    assert len(long.signature) == reading.MAX_SIGNATURE
    assert len(long.doc) == reading.MAX_TEXT
    assert module.classes[0].doc == "?"


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """O15: a missing file or name, a module without source, and what is no code are different errors."""
    (tmp_path / "text.txt").write_text("hello")
    broken = tmp_path / "broken.whl"
    with zipfile.ZipFile(broken, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", "x = 1\n" * 1000)
    data = broken.read_bytes()
    for wrong, error, words in (
        (tmp_path / "none.py", FileNotFoundError, "no file, folder or archive"),
        ("no_such_module", ModuleNotFoundError, "no module named 'no_such_module'"),
        ("json.none.more", ModuleNotFoundError, r"no module named 'json\.none'"),
        ("json.decoder.more", ModuleNotFoundError, "is not a package"),
        ("sys", ValueError, "built into the interpreter"),
        (tmp_path / "text.txt", ValueError, "neither Python source nor a wheel"),
    ):
        with pytest.raises(error, match=words):
            cloister.inspect_code(wrong)
    with pytest.raises(TypeError, match="not 3"):
        cloister.inspect_code(3)  # type: ignore[arg-type]  # that is the point
    at = data.index(b"a.py") + 6
    broken.write_bytes(data[:at] + b"\xff" * 8 + data[at + 8 :])
    assert "can't be unpacked" in cloister.inspect_code(broken).errors["a"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes in a folder there")
def test_pipes_and_links_in_a_folder_are_harmless(tmp_path: Path) -> None:
    """O15: a named pipe, a link to itself and a file without permission do not block or end an inspection."""
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zero.py").symlink_to("/dev/zero")
    (tmp_path / "fine.py").write_text("def fine(): ...\n")
    found = cloister.inspect_code(tmp_path)
    assert {name: error.split(":")[0] for name, error in found.errors.items()} == {
        "dangling": "it can't be read",
        "pipe": "it is not a regular file",
        "zero": "it is not a regular file",
    }
    assert [name for name, _ in found.functions()] == ["fine:fine"]


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O15: an inspection is bounded: more sources than the limit are a ValueError that says to inspect a part."""
    for number in range(4):
        (tmp_path / f"m{number}.py").write_text("")
    monkeypatch.setattr(places, "MAX_FILES", 3)
    with pytest.raises(ValueError, match=r"more than 3 sources .* inspect a part"):
        cloister.inspect_code(tmp_path)


def test_a_bomb_in_an_archive_is_not_unpacked(tmp_path: Path) -> None:
    """O15: a member that unpacks to a gigabyte of nothing is refused after the limit of one source."""
    wheel = tmp_path / "bomb.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.py", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))
    assert "more than 8,388,608 are not read" in cloister.inspect_code(wheel).errors["bomb"]


def test_inspection_imports_nothing_but_itself(tmp_path: Path) -> None:
    """O15: in a fresh program, inspecting a package leaves `sys.modules` without it, and makes no cached bytecode."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "__init__.py").write_text(TRAP)
    program = "import sys, cloister; print(len(cloister.inspect_code('acme').modules), 'acme' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["1", "False"]
    assert os.listdir(tmp_path / "acme") == ["__init__.py"]
