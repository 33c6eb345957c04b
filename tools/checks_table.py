"""Write docs/reference/checks.md: which test proves which check, at which level, from the tests' own docstrings.

A test names the checks that it proves at the beginning of its docstring: ``S08: …`` or ``S08, O11: …``. What each
check says in a few words is here; at which levels a test runs is found out in `levels_of_tests`.

    .venv/bin/python tools/checks_table.py          write the page
    .venv/bin/python tools/checks_table.py --check  tell whether it is up to date, and end with 1 if it is not
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from levels_of_tests import LEVELS, levels_of

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "reference" / "checks.md"

CHECKS = {
    "S01": "Start returns at once; the thread that hears the domains is a daemon with a telling name",
    "S02": "Each domain has its identity from its creator, and channels of its own",
    "S03": "`Connected` comes once for each connection, with name and pid",
    "S04": "The receiving ends with the channel, in time, and no exception escapes",
    "S05": "An I/O error is told with the domain's name and costs no thread of the host",
    "S06": "Beats come by themselves, also in a busy domain; alive and working are told apart",
    "S07": "Silence is `Unresponsive`, its end `Responsive`; the kill policy leaves the host well",
    "S08": "However a domain dies, the host and its siblings live, and the reason is exact",
    "S09": "Inside the process a native crash takes it down; an unhandled exception does not",
    "S10": "Exit hooks run on an orderly stop, and not after SIGKILL",
    "S11": "No window, no terminal; Ctrl-C goes to the host alone",
    "S12": "Requests of both sides interleave, none is lost",
    "S13": "Without a listener the client fails in time, with a clear error",
    "S14": "The same module gives the same results at every level",
    "S15": "A host that is killed takes its domains and their children along",
    "S16": "No internet socket is opened",
    "S17": "An accept that waits for ever wakes when the server is closed",
    "S18": "Who connected before accept began is accepted at once",
    "S19": "A failed accept is told, and the server accepts again",
    "S20": "Connection and close at once: the connection wins",
    "S21": "Waiting for one event and for several is the same",
    "S22": "A read waits for ever, or exactly as long as it is told",
    "S23": "Time-out, cancelled, closed and not connected are four errors",
    "S24": "After a timed-out read the next message is whole, once, in order",
    "S25": "A message of the limit passes, one byte more does not; bytes are counted",
    "S26": "Too large raises before a byte is sent, or anything is allocated",
    "S27": "A write that nobody reads ends in time; no torn message",
    "S28": "Writing when not connected raises",
    "S29": "UTF-16: Korean, emoji, a lone NUL, empty",
    "S30": "Two quick writes are two reads, byte by byte too",
    "S31": "10,000 open and close races leave nothing",
    "S32": "The default domain has a name, a thread, a context",
    "S33": "The default domain can't be unloaded; it ends with the process",
    "S34": "A domain starts with one context, more come on need; domains are not threads",
    "S35": "A program in the default domain runs on the calling thread; its exit code",
    "S36": "Create and unwrap in the default domain give the real object",
    "S37": "In a created domain the constructor runs there, for the caller's thread",
    "S38": "Two domains have different lists",
    "S39": "A handle is a proxy, its copy is none and runs here",
    "S40": "A copy that changes changes nothing else",
    "S41": "What can't be copied can be made; `unwrap` says why not, by attribute",
    "S42": "A handle that travels loads its type nowhere",
    "S43": "By reference: one state, calls run with the owner",
    "S44": "A thread makes a domain and runs the reservation program in it",
    "S45": "The broker runs in a context of its own, one thread at a time",
    "S46": "Across contexts by reference; an agile object has no proxy",
    "S47": "Each event once, with the right arguments; a resolver's answer is used",
    "S48": "Two domains with their own set-up see different code; unloading frees all",
    "S49": "Nothing of the application is loaded in the default domain",
    "S50": "Pipes can be awaited, and waited for beside other events",
    "S51": "1,000 messages each way with peers of .NET's samples",
    "S52": "A guest's message loop serves calls and calls the host",
    "S53": "A factory is changed, and modules move into domains",
    "O01": "The four modes of synchronization, from both kinds of context",
    "O02": "Two threads never overlap; first come, first served",
    "O03": "Calling out, re-entrant and not; back into the same object",
    "O04": "Context data slots; `context.call`",
    "O05": "Create, unload, twice, with calls running or queued, from inside; use after it",
    "O06": "The handler of the unloading meets a working domain",
    "O07": "A relative configuration path resolves against the base",
    "O08": "Data slots of a domain, read from the host",
    "O09": "Home is the original; the same object is the same proxy",
    "O10": "One-way calls return at once, keep their order; errors are events",
    "O11": "Any exception crosses, and none hides another",
    "O12": "CPU time, memory, peak, allocated bytes",
    "O13": "An object lives while it is held; leases are an opt-in",
    "O14": "A hook sees, adjusts or refuses each domain",
    "O15": "Code is listed without being run",
    "O16": "Loaded files can be replaced; reload makes a new domain",
}

_NAMED = re.compile(r"^((?:[SO]\d\d)(?:(?:, | and )[SO]\d\d)*):")


@dataclass
class Proof:
    """What proves one check."""

    files: list[str] = field(default_factory=list)
    """The test files."""
    levels: set[str] = field(default_factory=set)


def collect(folder: Path = CHECKOUT / "tests") -> dict[str, Proof]:
    """Read the docstrings of all tests. Raises ValueError for a check that is not in the list."""
    proofs = {name: Proof() for name in CHECKS}
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            named = _NAMED.match(ast.get_docstring(node) or "")
            for name in re.findall(r"[SO]\d\d", named[1]) if named else ():
                if name not in proofs:
                    raise ValueError(f"{path}: {node.name} names {name}, which is no check")
                proof = proofs[name]
                file = str(path.relative_to(folder.parent))
                if file not in proof.files:
                    proof.files.append(file)
                proof.levels |= levels_of(path, node)
    return proofs


def page(proofs: dict[str, Proof]) -> str:
    """The page, as it should be."""
    text = (
        "The checks are what this project took from three older designs (S) and from the behaviour of two"
        " implementations of application domains (O). Each is proved by tests that name it. This page is written by"
        " `tools/checks_table.py` from the tests' docstrings and from the levels of their fixtures and parameters. No"
        f" level: no domain is needed for it. {_at(proofs, {'process'})} were shown for processes only; most are of"
        f" their start, beat, exit or figures. {_at(proofs, {'interpreter', 'process'})} need modules of one's own,"
        " which the level `thread` has not."
    )
    lines = [
        "# What is proved, and where",
        "",
        *textwrap.wrap(text, 120, break_on_hyphens=False),
        "",
        "| check | what must hold | levels | tests |",
        "|---|---|---|---|",
    ]
    for name, claim in CHECKS.items():
        proof = proofs[name]
        levels = ", ".join(level for level in LEVELS if level in proof.levels) or "–"
        files = ", ".join(f"`{file.removeprefix('tests/')}`" for file in proof.files)
        lines.append(f"| {name} | {claim} | {levels if files else ''} | {files or '**none**'} |")
    missing = [name for name, proof in proofs.items() if not proof.files]
    lines += ["", f"Checks that no test names: {', '.join(missing) or 'none'}.", ""]
    return "\n".join(lines)


def _at(proofs: dict[str, Proof], levels: set[str]) -> str:
    """The checks that were shown at just these levels: ``S01, S04 to S08 and O12``."""
    names = list(proofs)
    runs: list[list[str]] = []
    for place, name in enumerate(names):
        if proofs[name].levels != levels:
            continue
        if runs and names[place - 1] == runs[-1][-1] and name[0] == runs[-1][0][0]:
            runs[-1].append(name)
        else:
            runs.append([name])
    words = [word for run in runs for word in (run if len(run) < 3 else [f"{run[0]} to {run[-1]}"])]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])) or "None"


def main(words: list[str]) -> int:
    """Write the page, or compare it."""
    wanted = page(collect())
    if words == ["--check"]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted:
            return 0
        print(f"{PAGE.relative_to(CHECKOUT)} is not what the tests say; run tools/checks_table.py")
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
