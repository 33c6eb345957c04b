"""The whole record of one run of the demo, and the sentences that are said about it on every screen and page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cloister.cli.demo.one_process import Comparison
from cloister.cli.demo.outcomes import Life, Outcome, Verdict, counted

__all__ = ["Record"]


@dataclass(slots=True, kw_only=True)
class Record:
    """What happened, all of it."""

    faults: dict[str, str] = field(default_factory=dict)
    """What is wrong with each file of the demo's own, by name."""
    outcomes: list[Outcome] = field(default_factory=list)
    """In the order in which they came."""
    lives: list[Life] = field(default_factory=list)
    seconds: float = 0.0
    """From the start of the server to its end."""
    comparison: Comparison | None = None
    """How far one process got; None before it was tried."""
    left: list[str] = field(default_factory=list)
    """What is left over, a line each."""

    @property
    def by_name(self) -> list[Outcome]:
        """The outcomes in the order of the files' names."""
        return sorted(self.outcomes, key=lambda outcome: outcome.file)

    def counts(self) -> dict[Verdict, int]:
        """How many files had each verdict; those that none had are left out."""
        found = Counter(outcome.verdict for outcome in self.outcomes)
        return {verdict: found[verdict] for verdict in Verdict if found[verdict]}

    def headline(self) -> str:
        """What became of the files, in a sentence."""
        counts = ", ".join(f"{count} {verdict.value}" for verdict, count in self.counts().items())
        return f"{counted(len(self.outcomes), 'file')} in {self.seconds:.1f} s: {counts}"

    def domains_line(self) -> str:
        """What became of the domains, in a sentence."""
        modules = len({life.module for life in self.lives})
        lost = [life for life in self.lives if life.was_wanted]
        causes = ", ".join(f"{life.module}: {life.report.cause}" for life in lost if life.report)
        ended = f"{len(lost)} ended before their time ({causes})" if lost else "none ended before its time"
        return f"{counted(modules, 'module')} in {counted(len(self.lives), 'domain')}; {ended}"

    def left_line(self) -> str:
        """What is left over, in a sentence."""
        if not self.left:
            return f"nothing: no process of {counted(len(self.lives), 'domain')}, no thread, no descriptor, no file"
        return "; ".join(self.left)
