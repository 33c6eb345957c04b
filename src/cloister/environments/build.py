"""Making an environment, with uv: once, however many processes ask for it at the same time.

It is built by the process that calls, which may be killed at any moment: nothing that is half made is ever used. Any
thread may enter; it takes as long as resolving and downloading take.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from cloister.environments import locks, store
from cloister.environments.pythons import find_python, is_version
from cloister.environments.spec import Spec, named
from cloister.errors import EnvironmentFailed

__all__ = ["build", "find_uv"]

KEPT_LINES: Final = 60
"""Lines of what uv said that an error may hold."""
MAX_UNUSED_S: Final = 90 * 86400.0
"""An environment that was not used for so long is removed when another one is made."""


def find_uv() -> str:
    """The program uv: of the extra, else of the PATH. Raises EnvironmentFailed where there is none."""
    try:
        from uv import find_uv_bin
    except ImportError:
        pass
    else:
        try:
            return str(find_uv_bin())
        except FileNotFoundError:
            pass
    found = shutil.which("uv")
    if found is None:
        raise EnvironmentFailed(
            "to build an environment the program uv is needed: pip install 'cloister[environments]'"
        )
    return found


def build(spec: Spec, tell: Callable[[str], None], environ: Mapping[str, str] | None = None) -> str:
    """Give the interpreter of the environment; make it where it is not there.

    `tell` gets a line of progress now and then. Raises EnvironmentFailed with the words of uv.
    """
    try:
        waiting = partial(tell, "another process builds it; waiting for it")
        with locks.alone(store.lock_file(spec.key), waiting) as lock:
            python = store.find(spec.key)
            if python is None:
                _make(spec, tell, {**(os.environ if environ is None else environ), **dict(spec.variables)}, lock)
                python = store.find(spec.key)
    except OSError as error:
        raise EnvironmentFailed(
            f"the environment could not be kept in {store.cache_folder()}: {error}; CLOISTER_CACHE names another place"
        ) from error
    if python is None:
        raise EnvironmentFailed(f"the environment in {store.folder_of(spec.key)} has no interpreter that runs")
    store.clean(MAX_UNUSED_S)
    return python


def _make(spec: Spec, tell: Callable[[str], None], environ: dict[str, str], lock: int | None) -> None:
    uv, folder = find_uv(), store.folder_of(spec.key)
    shutil.rmtree(folder, ignore_errors=True)
    wanted = ", ".join(spec.requirements) or "no requirements"
    tell(f"building an environment for {wanted}")
    python = spec.python
    if is_version(python):
        python = find_python(python) or python  # uv may know where to get it
    os.makedirs(folder, mode=0o700)
    made = False
    try:
        uv_does = partial(_run, spec=spec, folder=folder, environ=environ, tell=tell, lock=lock)
        uv_does([uv, "venv", "--quiet", "--no-project", "--allow-existing", "--python", python, folder])
        inside = store.python_in(folder)
        if spec.requirements:
            uv_does([uv, "pip", "install", "--python", inside, "--", *spec.requirements])
        store.finish(spec, _version(inside))
        made = True
    finally:
        if not made:
            shutil.rmtree(folder, ignore_errors=True)
    tell("the environment is ready")


def _run(
    command: list[str], spec: Spec, folder: str, environ: dict[str, str], tell: Callable[[str], None], lock: int | None
) -> None:
    """Run uv, away from any project whose settings it might read; what it says is progress.

    It inherits the lock: where this process is killed and uv goes on, nobody else touches the folder until it ends.
    """
    said: deque[str] = deque(maxlen=KEPT_LINES)
    environ = {**environ, "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH"):
        environ.pop(name, None)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
        pass_fds=() if lock is None or os.name == "nt" else (lock,),
    )
    assert process.stdout is not None
    with process:
        try:
            for line in process.stdout:
                text = line.rstrip()
                if text:
                    said.append(text)
                    tell(text.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise EnvironmentFailed(_failure(spec, [*said], process.returncode))


def _failure(spec: Spec, said: list[str], code: int) -> str:
    """What went wrong, with the requirements that uv names first."""
    words = "\n".join(line for line in said if not line.startswith("Using Python"))
    culprits = [each for each in spec.requirements if (name := named(each)) and name in words.lower()]
    what = ", ".join(map(repr, culprits or spec.requirements)) or f"Python {spec.python!r}"
    return f"the environment for {what} could not be built; uv says (exit code {code}):\n{words}"


def _version(python: str) -> str:
    program = "import platform; print(platform.python_version())"
    done = subprocess.run([python, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        raise EnvironmentFailed(f"the interpreter of the environment does not run: {done.stderr.strip() or python}")
    return done.stdout.strip()
