#!/usr/bin/env bash
# Install what the tests of the .NET peers need beyond Python: Debian's C# compiler (as root), a .NET runtime (by pip).
#
# Quick when all of it is there. Exit code 0 also where a part can't be had: it says which, and the tests that need it
# say so again (and fail when CI=true). PYTHON chooses the interpreter whose pip is used.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-}
if [ -z "$python" ]; then
    # Debian's python3 comes without pip; the virtual environment, which everything else needs anyway, has one.
    if [ ! -x .venv/bin/python ] && ! python3 -m pip --version > /dev/null 2>&1; then
        python3 tools/environment.py > /dev/null || true
    fi
    if [ -x .venv/bin/python ]; then python=.venv/bin/python; else python=python3; fi
fi

if ! command -v mcs > /dev/null; then
    if [ "$(id -u)" != 0 ]; then
        echo "install_test_peers: not root, so mono-mcs stays away; run: sudo apt-get install mono-mcs" >&2
    elif ! command -v apt-get > /dev/null; then
        echo "install_test_peers: no apt-get here; install Mono's C# compiler mcs by hand" >&2
    else
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq > /dev/null || true
        apt-get install -y -qq --no-install-recommends mono-mcs > /dev/null \
            || echo "install_test_peers: apt-get can't install mono-mcs" >&2
    fi
fi

"$python" tools/dotnet_peer.py || echo "install_test_peers: the tests of the .NET peers can't run" >&2
