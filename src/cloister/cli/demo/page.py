"""What happened as one HTML page that needs nothing else: no script, no font, no picture from anywhere.

It is well-formed XML too, light or dark as the reader's system is, and printable. `timeline` draws. Pure, but for the
versions that it names.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.resources import files

from cloister.cli.demo.outcomes import Outcome, Verdict, counted, markup
from cloister.cli.demo.record import Record
from cloister.cli.demo.timeline import timeline
from cloister.release import VERSION

__all__ = ["page"]


def page(record: Record) -> str:
    """The page for a record that is complete."""
    style = files("cloister.cli.demo").joinpath("page.css").read_text(encoding="utf-8")
    parts = (_top, _drawing, _alone, _files, _reports, _foot)
    body = "\n".join(line for part in parts for line in part(record))
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>cloister demo</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _top(record: Record) -> Iterator[str]:
    ended = sum(life.was_wanted for life in record.lives)
    read = counted(len(record.outcomes), "file")
    yield "<header>"
    yield "<h1>cloister demo</h1>"
    yield (
        f"<p>An intake server read {read}, good, damaged and hostile ones, each kind with a module in a process of its"
        f" own. {ended} of these processes ended before their time. The server went on.</p>"
    )
    yield '<ul class="counts">'
    for verdict, count in record.counts().items():
        yield f'<li class="{verdict.name.lower()}"><b>{count}</b> {verdict.value}</li>'
    yield f"<li><b>{record.seconds:.1f} s</b> in all</li></ul></header>"


def _drawing(record: Record) -> Iterator[str]:
    yield "<section><h2>The life of each domain</h2>"
    yield f'<figure><div class="drawing">{timeline(record)}</div><figcaption>'
    yield '<span class="key starting"></span> starts <span class="key life"></span> waits'
    for verdict in record.counts():
        if verdict is not Verdict.UNKNOWN:
            yield f'<span class="key {verdict.name.lower()}"></span> {verdict.value}'
    yield '<span class="cross">✕</span> ended before its time</figcaption></figure></section>'


def _alone(record: Record) -> Iterator[str]:
    comparison = record.comparison
    if comparison is None:
        return
    total = max(1, comparison.total)
    yield "<section><h2>The same without domains</h2>"
    for words, done in (("with domains", len(record.outcomes)), ("one process", comparison.done)):
        yield f'<div class="bar"><span>{words}</span><div><i style="width:{100 * done / total:.1f}%"></i></div>'
        yield f"<span>{done} of {comparison.total}</span></div>"
    sentence = str(comparison)
    yield f"<p>{markup(sentence[:1].upper() + sentence[1:])}.</p></section>"


def _files(record: Record) -> Iterator[str]:
    planted = bool(record.faults)
    yield '<section><h2>The files</h2><div class="wide"><table><thead><tr><th>file</th>'
    if planted:
        yield "<th>what is wrong with it</th>"
    yield '<th>module</th><th>result</th><th>what happened, and why</th><th class="number">time</th></tr></thead>'
    yield "<tbody>"
    for outcome in record.by_name:
        yield f"<tr><td>{markup(outcome.file)}</td>"
        if planted:
            yield f"<td>{markup(record.faults.get(outcome.file, ''))}</td>"
        yield f'<td>{markup(outcome.module)}</td>{_verdict(outcome)}<td class="words">{markup(outcome.words)}</td>'
        yield f'<td class="number">{outcome.seconds:.2f} s</td></tr>'
    yield "</tbody></table></div></section>"


def _verdict(outcome: Outcome) -> str:
    return f'<td><span class="verdict {outcome.verdict.name.lower()}">{outcome.verdict.value}</span></td>'


def _reports(record: Record) -> Iterator[str]:
    found = [outcome for outcome in record.by_name if outcome.report is not None]
    if not found:
        return
    yield "<section><h2>The reports of the domains that ended</h2>"
    for outcome in found:
        cause = "" if outcome.report is None else outcome.report.cause
        yield f"<details><summary>{markup(outcome.file)}: {markup(outcome.module)}, {markup(cause)}</summary>"
        yield f"<pre>{markup(str(outcome.report))}</pre></details>"
    yield "</section>"


def _foot(record: Record) -> Iterator[str]:
    sentence = record.left_line()
    yield f"<section><h2>Left over</h2><p>{markup(sentence[:1].upper() + sentence[1:])}.</p></section>"
    yield (
        f"<footer>cloister {VERSION}, Python {platform.python_version()}, {markup(platform.system())}"
        f" {markup(platform.release())}, {markup(platform.machine())}</footer>"
    )
