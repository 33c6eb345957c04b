"""Shadow copies: the folders of `Setup.path`, copied for one domain, so that the originals can be replaced meanwhile.

The copy is made before the guest starts, keeps times, and leaves out compiled files and hidden folders. What has
changed since is told from times and sizes, without reading any file. Any thread may enter.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from cloister.domain import temporary
from cloister.errors import StartFailed

__all__ = ["Shadow"]

_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*")


class Shadow:
    """The copies for one domain."""

    def __init__(self, domain: str, originals: list[str]) -> None:
        """Copy. Raises StartFailed where something can't be copied; nothing is left then."""
        self._originals = originals
        # First the looks, then the copies: what changes in between counts as changed.
        self._seen = dict(_look(originals))
        self.folder = temporary.make(domain)
        self.search: list[str] = []
        """What stands for the originals on the guest's search path."""
        try:
            for number, original in enumerate(originals):
                place = os.path.join(self.folder, str(number), os.path.basename(original) or "path")
                self.search.append(place)
                if os.path.isdir(original):
                    shutil.copytree(original, place, ignore=_LEFT_OUT, ignore_dangling_symlinks=True)
                else:
                    os.makedirs(os.path.dirname(place))
                    shutil.copy2(original, place)
        except (OSError, shutil.Error) as error:
            temporary.remove(self.folder)
            raise StartFailed(
                f"domain {domain!r}: Setup.path could not be copied (Setup.shadow_copy): {error}"
            ) from error

    def changed(self) -> list[str]:
        """The files that were changed, added or removed since they were copied, in order."""
        now = dict(_look(self._originals))
        return sorted(path for path in now.keys() | self._seen.keys() if now.get(path) != self._seen.get(path))


def _look(originals: list[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    for original in originals:
        if not os.path.isdir(original):
            yield from _look_at(original)
        for folder, folders, files in os.walk(original):
            left_out = _LEFT_OUT(folder, [*folders, *files])
            folders[:] = [name for name in folders if name not in left_out]
            for name in files:
                if name not in left_out:
                    yield from _look_at(os.path.join(folder, name))


def _look_at(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        found = os.stat(path)
    except OSError:
        return
    yield path, (found.st_mtime_ns, found.st_size)
