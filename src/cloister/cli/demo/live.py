"""A table of the domains that moves while they work, on a terminal, with rich. Only the main thread enters."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cloister.cli.demo.desk import Desk
from cloister.cli.demo.intake import Intake
from cloister.cli.demo.outcomes import Outcome, Verdict
from cloister.cli.demo.record import Record
from cloister.cli.demo.screen import Screen

__all__ = ["LiveScreen"]

_STYLES = {
    Verdict.ANSWERED: "green",
    Verdict.RAISED: "yellow",
    Verdict.TIMED_OUT: "magenta",
    Verdict.DIED: "bold red",
    Verdict.NOT_STARTED: "bold red",
    Verdict.UNKNOWN: "dim",
}
_STATES = {"ready": "green", "starting": "cyan", "stopping": "yellow", "ended": "red"}


class LiveScreen(Screen):
    """What went wrong scrolls by above, the table of the domains stays below."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._intake: Intake | None = None

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(escape(text))

    def watch(self, intake: Intake) -> None:
        self._intake = intake
        self.tick()

    def tick(self) -> None:
        if self._intake is not None:
            self._live.update(_table(self._intake), refresh=True)

    def show(self, outcome: Outcome) -> None:
        if outcome.verdict is not Verdict.ANSWERED:
            self._console.print(f"{_coloured(outcome)} [bold]{escape(outcome.file)}[/]: {escape(outcome.words)}")
        self.tick()

    def summary(self, record: Record) -> None:
        table = Table("file", "module", "result", "what happened, and why", box=None, pad_edge=False)
        table.add_column("time", justify="right")
        for outcome in record.by_name:
            file, time = escape(outcome.file), f"{outcome.seconds:.2f} s"
            table.add_row(file, outcome.module, _coloured(outcome), escape(outcome.words), time)
        self._console.print(table)
        facts = Table.grid(padding=(0, 2))
        facts.add_row("[bold]with domains[/]", escape(f"{record.headline()}\n{record.domains_line()}"))
        facts.add_row("[bold]without domains[/]", escape(str(record.comparison)))
        facts.add_row("[bold]left over[/]", escape(record.left_line()))
        self._console.print()
        self._console.print(facts)


def _table(intake: Intake) -> Table:
    table = Table("domain", "process", "state", title=f"{intake.clock():.1f} s", title_justify="left", box=None)
    for name in ("memory", "CPU", "files", "ended"):
        table.add_column(name, justify="right")
    table.add_column("reading")
    for desk in intake.desks:
        table.add_row(*_row(desk, intake.count(desk.kind)))
    return table


def _row(desk: Desk, total: int) -> list[str]:
    deaths = sum(life.was_wanted for life in desk.lives)
    counts = [f"{desk.done}/{total}", f"[red]{deaths}[/]" if deaths else ""]
    domain = desk.domain
    if domain is None:
        return [desk.kind.name, "", "[red]ended[/]", "", "", *counts, escape(desk.reading)]
    status = domain.status()
    memory = "" if status.memory is None else f"{status.memory / 2**20:.0f} MiB"
    cpu = "" if status.cpu_seconds is None else f"{status.cpu_seconds:.2f} s"
    state = f"[{_STATES[status.state]}]{status.state}[/]"
    return [desk.kind.name, str(status.pid), state, memory, cpu, *counts, escape(desk.reading)]


def _coloured(outcome: Outcome) -> str:
    return f"[{_STYLES[outcome.verdict]}]{outcome.verdict.value}[/]"
