"""What is shown while the demo runs and at its end, as plain lines. For a terminal with rich there is `live`.

Only the main thread enters.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TextIO

from cloister.cli.demo.intake import Intake
from cloister.cli.demo.outcomes import Outcome
from cloister.cli.demo.record import Record

__all__ = ["PlainScreen", "Screen", "screen_for"]


class Screen:
    """Where the demo shows itself. ``with`` around the time in which things move."""

    def say(self, text: str) -> None:
        """Show a line."""
        raise NotImplementedError

    def watch(self, intake: Intake) -> None:
        """Show this server from now on."""

    def tick(self) -> None:
        """Look at the server again."""

    def show(self, outcome: Outcome) -> None:
        """Show what became of a file, as soon as it is known."""
        raise NotImplementedError

    def summary(self, record: Record) -> None:
        """Show the table at the end, and what follows from it."""
        raise NotImplementedError

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class PlainScreen(Screen):
    """A line for each thing that happens: for files, pipes, and terminals without rich."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        """Show a line, in whatever encoding the stream has."""
        encoding = self._stream.encoding or "ascii"
        print(text.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)

    def show(self, outcome: Outcome) -> None:
        done = outcome.begun + outcome.seconds
        where = f"{done:6.2f} s  {outcome.module or '-':9}  {outcome.file:24}"
        self.say(f"{where}  {outcome.verdict.value}: {outcome.words}")

    def summary(self, record: Record) -> None:
        outcomes = record.by_name
        file_width = max((len(outcome.file) for outcome in outcomes), default=0)
        self.say(f"\n{'file':{file_width}}  {'module':9}  {'result':9}    time  what happened, and why")
        for outcome in outcomes:
            self.say(
                f"{outcome.file:{file_width}}  {outcome.module or '-':9}  {outcome.verdict.value:9}"
                f"  {outcome.seconds:4.2f} s  {outcome.words}"
            )
        self.say(f"\nwith domains:     {record.headline()}")
        self.say(f"                  {record.domains_line()}")
        self.say(f"without domains:  {record.comparison}")
        self.say(f"left over:        {record.left_line()}")


def screen_for(stream: TextIO) -> Screen:
    """A live table where `stream` is a terminal and rich is installed, else plain lines."""
    if stream.isatty() and find_spec("rich") is not None:
        from cloister.cli.demo.live import LiveScreen

        return LiveScreen(stream)
    return PlainScreen(stream)
