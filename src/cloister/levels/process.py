"""The process level, on whatever platform this is: `process_posix`, or none.

There is none for Windows yet: there a domain is refused with LevelUnavailable before anything is started.
"""

from __future__ import annotations

import sys

__all__ = ["Ending", "Process", "begin"]

if sys.platform != "win32":
    from cloister.levels.ending_posix import Ending as Ending
    from cloister.levels.process_posix import Process as Process
    from cloister.levels.process_posix import begin as begin
else:  # another platform
    from typing import Any, TypeAlias

    Ending: TypeAlias = Any
    Process: TypeAlias = Any

    def begin(*_: object) -> Any:
        """Never reached: the pipes that a guest needs are refused before."""
        raise NotImplementedError
