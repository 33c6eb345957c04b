"""The example with two versions of numpy, with real packages from the registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloister.environments.build import find_uv
from cloister.environments.sources import variables
from cloister.errors import EnvironmentFailed

PROGRAM = Path(__file__).parent.parent.parent / "examples" / "dependencies" / "two_numpys.py"


def registry_has_numpy(tmp_path: Path) -> bool:
    """Whether uv finds both versions where the user's configuration points."""
    environ = {**os.environ, **variables(os.environ)[0]}
    wanted = tmp_path / "wanted.txt"
    for each in ("numpy<2", "numpy>=2"):
        wanted.write_text(each)
        command = [find_uv(), "pip", "compile", "--quiet", "--python", sys.executable, str(wanted)]
        if subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, timeout=60, check=False).returncode:
            return False
    return True


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(sys.version_info[:2] > (3, 12), reason="numpy 1 has no wheels for this Python")
def test_two_versions_of_numpy_in_one_program(tmp_path: Path) -> None:
    """Both domains compute with their own numpy; the second run builds nothing."""
    try:
        if not registry_has_numpy(tmp_path):
            pytest.skip("the package registry is not there")
    except EnvironmentFailed:
        pytest.skip("uv is not installed")
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", str(PROGRAM)],
            env={**os.environ, "CLOISTER_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=80,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines())
    assert said[0][-2:] == said[1] == ["old: numpy 1.x says 1.247", "new: numpy 2.x says 1.247"]
    assert "  old: + numpy==1.26" in "\n".join(said[0])
