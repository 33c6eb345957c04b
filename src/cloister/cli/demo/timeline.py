"""The timeline of the domains as an SVG drawing: a lane for each module, a bar for each life, a block for each file.

The drawing has no colours of its own: its classes are coloured by the page that it lies in, light or dark. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from cloister.cli.demo.outcomes import Life, Outcome, markup
from cloister.cli.demo.record import Record

__all__ = ["timeline"]

# All in the units of the drawing, which is as wide as the page lets it be.
_WIDTH = 1000
_LEFT = 96
_RIGHT = 12
_TOP = 26
_LANE = 44
_BAR = (16, 18)
"""Where the bar of a life begins in its lane, and how high it is; the words about its end stand above."""
_BLOCK = (13, 24)
_NARROWEST = 3.0
"""So that a file that was read in a millisecond can be seen."""
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)


def timeline(record: Record) -> str:
    """Draw a record. The result is one ``<svg>`` element, well-formed XML."""
    modules = list(dict.fromkeys(life.module for life in record.lives))
    height = _TOP + _LANE * len(modules) + 6
    # From here to the right edge nothing happens any more.
    end = max([record.seconds, *(life.ended or 0.0 for life in record.lives)], default=0.0) * 1.02 or 1.0
    parts = [
        f'<svg class="timeline" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="The life of each domain">',
        '<defs><pattern id="starting" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="life" width="6" height="6"/><rect class="stripe" width="2.5" height="6"/></pattern></defs>',
        *_axis(end, height),
    ]
    for row, module in enumerate(modules):
        top = _TOP + _LANE * row
        parts.append(f'<text class="lane" x="{_LEFT - 10}" y="{top + 30}" text-anchor="end">{markup(module)}</text>')
        for life in record.lives:
            if life.module == module:
                parts += _life(life, top, end)
        for outcome in record.outcomes:
            if outcome.module == module:
                parts.append(_block(outcome, top, end))
        for life in record.lives:
            if life.module == module and life.was_wanted:
                parts += _end(life, top, end)
    return "\n".join([*parts, "</svg>"])


def _x(seconds: float, end: float) -> float:
    return round(_LEFT + seconds / end * (_WIDTH - _LEFT - _RIGHT), 2)


def _axis(end: float, height: int) -> Iterator[str]:
    """A line every so many seconds: at most nine of them."""
    step = next((step for step in _STEPS if end / step <= 9), _STEPS[-1])
    for number in range(int(end / step) + 1):
        x = _x(number * step, end)
        yield f'<line class="grid" x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{height}"/>'
        yield f'<text class="tick" x="{x}" y="{_TOP - 12}" text-anchor="middle">{number * step:g} s</text>'


def _life(life: Life, top: int, end: float) -> Iterator[str]:
    offset, height = _BAR
    ended = end if life.ended is None else life.ended
    begin, ready, over = (_x(time, end) for time in (life.started, ended if life.ready is None else life.ready, ended))
    words = f"process {life.pid}: started at {life.started:.2f} s"
    if life.ready is not None:
        words += f", ready after {life.ready - life.started:.2f} s"
    if life.report is not None:
        words += f"; {life.report.cause} at {ended:.2f} s"
    yield f"<g><title>{markup(words)}</title>"
    place = f'y="{top + offset}" height="{height}" rx="3"'
    yield f'<rect fill="url(#starting)" x="{begin}" width="{ready - begin:.2f}" {place}/>'
    yield f'<rect class="life" x="{ready}" width="{over - ready:.2f}" {place}/></g>'


def _block(outcome: Outcome, top: int, end: float) -> str:
    offset, height = _BLOCK
    begin = _x(outcome.begun, end)
    width = max(_NARROWEST, _x(outcome.begun + outcome.seconds, end) - begin)
    words = f"{outcome.file}: {outcome.verdict.value} after {outcome.seconds:.3f} s\n{outcome.words}"
    place = f'x="{begin}" y="{top + offset}" width="{width:.2f}" height="{height}" rx="1.5"'
    return f'<rect class="{outcome.verdict.name.lower()}" {place}><title>{markup(words)}</title></rect>'


def _end(life: Life, top: int, end: float) -> Iterator[str]:
    """A cross where a domain ended before its time, and why, on the side where there is room."""
    if life.ended is None or life.report is None:
        return
    x, y, arm = _x(life.ended, end), top + _BAR[0] + _BAR[1] / 2, 6
    yield f'<path class="end" d="M{x - arm} {y - arm}L{x + arm} {y + arm}M{x - arm} {y + arm}L{x + arm} {y - arm}"/>'
    side, anchor = (x + 8, "start") if x < _WIDTH * 0.75 else (x, "end")
    yield f'<text class="cause" x="{side:.2f}" y="{top + 10}" text-anchor="{anchor}">{markup(life.report.cause)}</text>'
