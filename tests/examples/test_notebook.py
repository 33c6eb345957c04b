"""The notebook of the how-to guide runs in a real kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parent.parent.parent / "examples" / "notebook.ipynb"

# In a process of its own: the client keeps sockets and threads for as long as its process lives.
RUN = """\
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=20, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def shown(notebook: Path) -> tuple[list[str], list[str]]:
    """The results of the cells, in order, and the lines that were printed, sorted: a domain's may come a cell later."""
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    printed = "".join("".join(output["text"]) for output in outputs if "text" in output)
    return ["".join(output["data"]["text/plain"]) for output in outputs if "data" in output], sorted(
        printed.splitlines()
    )


def test_a_notebook_keeps_its_variables_when_a_library_crashes(tmp_path: Path) -> None:
    """Each cell runs and shows what the stored one shows; a crash in a domain leaves the kernel alone."""
    pytest.importorskip("nbclient", reason="the guides' libraries are installed with `make environment`")
    pytest.importorskip("ipykernel", reason="the guides' libraries are installed with `make environment`")
    ran = tmp_path / "ran.ipynb"
    folders = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK), str(ran)],
        cwd=tmp_path,
        env={**os.environ, **folders, "JUPYTER_PLATFORM_DIRS": "1"},
        capture_output=True,
        text=True,
        timeout=28,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown(ran) == shown(NOTEBOOK)
