"""What is made ready for one domain before its guest begins, and removed when it has ended.

Here is the order of things: the plan, the set-up message, the shadow copy, the temporary folder, the process. What the
plan and the message hold is in `start`. `Preparation` is made and used by the thread that makes the domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloister.domain import living, shortage, start, temporary
from cloister.domain.shadow import Shadow
from cloister.errors import StartFailed
from cloister.levels.watcher import watcher

if TYPE_CHECKING:
    from cloister.domain.options import Options
    from cloister.levels.inside import Inside
    from cloister.levels.process import Process
    from cloister.pipes.duplex import LaneEnd
    from cloister.pipes.page import Page

__all__ = ["Preparation"]


class Preparation:
    """What one guest finds when it begins."""

    def __init__(self, name: str, identity: int, options: Options, watched: bool) -> None:
        """Make ready what can be without the guest. `watched`: its imports are told to somebody.

        Raises StartFailed for what the user got wrong, and OSError for a temporary folder; nothing is left then.
        """
        self._name, self._options = name, options
        self._plan = plan = start.plan(name, options.setup, options.level)
        self.order = plan.order
        """What it is to build first, its virtual environment; None where nothing is to be built."""
        self.setup = start.setup_message(name, identity, options.setup, options.watchdog, plan)
        """What it is told before anything of the user's runs in it."""
        if options.setup.preload and watched:
            self.setup["shared"] = False  # its imports are told, so it makes them itself
        self.folders: list[str] = []
        """What was made for it in the file system."""
        self.shadow = None if not options.setup.shadow_copy else Shadow(name, self.setup["search"])
        if self.shadow is not None:
            self.setup["search"] = self.shadow.search
            self.folders.append(self.shadow.folder)
        if options.setup.temp:
            try:
                self.folders.append(temporary.make(name))
            except OSError:
                self.remove()
                raise
            self._plan = plan.with_temp(self.folders[-1])

    def begin(self) -> tuple[Process | Inside, Page | None, LaneEnd]:
        """Let the guest begin: its process, the page shared with it, the host's end of its first lane.

        The watcher runs for it from then on. Raises StartFailed; nothing is left then, nor where it is
        interrupted.
        """
        try:
            watcher.enter()
            try:
                return self._spawn()
            except BaseException:
                watcher.leave()
                raise
        except (OSError, RuntimeError, ValueError) as error:
            self.remove()
            advice = shortage.advice(error, len(living.all_of_them()))
            raise StartFailed(f"domain {self._name!r} could not be started: {error}{advice}") from error
        except BaseException:
            self.remove()
            raise

    def _spawn(self) -> tuple[Process | Inside, Page | None, LaneEnd]:
        if self._options.level == "process":
            return start.spawn_guest(self._plan, self._options.setup, self.setup)
        return start.begin_inside(self._options.level, self._name)

    def remove(self) -> None:
        """Remove the folders that were made for it."""
        temporary.remove(*self.folders)
