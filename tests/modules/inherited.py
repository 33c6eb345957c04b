"""What a preloaded module makes at its import and uses in the domains that were forked after it."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import threading

_lock = threading.RLock()
_changed = threading.Condition(_lock)
_seen: list[int] = []

if sys.platform != "win32":
    signal.signal(signal.SIGUSR2, lambda number, _: _seen.append(number))


def signals() -> int:
    """Raise the signal whose handler was set at the import; how many have come."""
    if sys.platform != "win32":
        signal.raise_signal(signal.SIGUSR2)
    return len(_seen)


def locked_by_a_thread() -> bool:
    """Whether a thread that is started now and this one meet under the condition that was made at the import."""
    done: list[bool] = []

    def change() -> None:
        with _changed:
            done.append(True)
            _changed.notify_all()

    with _changed:
        thread = threading.Thread(target=change)
        thread.start()
        met = _changed.wait_for(lambda: bool(done), 30)
    thread.join(30)
    return met


def child() -> int:
    """The exit code of a child."""
    return subprocess.run([sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"], check=False).returncode


def token() -> str:
    """A secret."""
    return secrets.token_hex(8)
