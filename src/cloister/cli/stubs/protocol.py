"""A Protocol as text, from what `inspection` has told. Pure: the class is not here.

For ``cloister.aio`` every method and attribute is awaited: a method is an ``async def``, an attribute an ``Awaitable``.
"""

from __future__ import annotations

import re
from inspect import Parameter
from typing import Any, Final

__all__ = ["protocol"]

_STREAM: Final = re.compile(r"(?:Async)?(?:Iterator|Iterable|Generator)\[")
_WIDTH: Final = 120
_AT_ONCE: Final = frozenset(
    f"__{name}__"
    for name in (
        *"len length_hint contains setitem delitem reversed".split(),
        *"int float complex index bytes fspath lt le gt ge".split(),
    )
)
"""Python wants the answers of these at once, so a proxy that is awaited does not have them."""


def protocol(found: dict[str, Any], name: str, awaited: bool) -> str:
    """The text of a module with one Protocol."""
    members = sorted(found["members"], key=lambda member: member["kind"] == "method")
    body = [line for member in _members(members, awaited) for line in member] or ["    ..."]
    if not body[0]:
        del body[0]
    text = "\n".join(body)
    imports = [used for line in found["imports"] if (used := _used(line, text))]
    generics = ["Awaitable"] if "Awaitable[" in text else []
    generics += [each for each in ("AsyncIterator", "Iterator") if re.search(rf"\b{each}\[", text)]
    _add_import(imports, "collections.abc", generics)
    _add_import(imports, "typing", ["Any", "Protocol"] if re.search(r"\bAny\b", text) else ["Protocol"])
    how = " --async" if awaited else ""
    return "\n".join(
        [
            f'"""What a proxy of {found["module"]}:{found["class"]} offers; made by ``cloister stubs{how}``."""',
            "",
            "from __future__ import annotations",
            "",
            *_at_runtime(imports),
            "",
            "",
            f"class {name}(Protocol):",
            f'    """{_quoted(found["text"]) or "A proxy."}"""',
            "",
            *body,
            "",
        ]
    )


def _used(line: str, text: str) -> str:
    """An import line with what occurs in the text, empty where nothing does."""
    begin, found, names = line.rpartition(" import ")
    if not found:
        return line if re.search(rf"\b{re.escape(line.removeprefix('import '))}\.", text) else ""
    kept = [name for name in names.split(", ") if re.search(rf"\b{name}\b", text)]
    return f"{begin} import {', '.join(kept)}" if kept else ""


def _add_import(imports: list[str], module: str, names: list[str]) -> None:
    begin = f"from {module} import "
    for line in [line for line in imports if line.startswith(begin)]:
        imports.remove(line)
        names = sorted({*names, *line.removeprefix(begin).split(", ")})
    if names:
        imports.append(begin + ", ".join(names))


def _at_runtime(imports: list[str]) -> list[str]:
    """The import lines: those of the standard library's types at once, the application's for type checkers only."""
    now = [line for line in imports if line.startswith(("from typing import", "from collections.abc import"))]
    later = [line for line in imports if line not in now]
    if later:
        _add_import(now, "typing", ["TYPE_CHECKING"])
    lines = sorted(now)
    if later:
        lines += ["", "if TYPE_CHECKING:", *(f"    {line}" for line in sorted(later))]
    return lines


def _members(members: list[dict[str, Any]], awaited: bool) -> list[list[str]]:
    if not awaited:
        return [_member(member) for member in members if not member["name"].startswith(("__aenter", "__aexit"))]
    names = {member["name"] for member in members}
    made = []
    for member in members:
        name = member["name"]
        if name in _AT_ONCE or (name.startswith("__i") and name not in ("__iter__", "__invert__")):
            continue
        if name == "__next__" or (name in ("__enter__", "__exit__") and "__aenter__" in names):
            continue
        made.append(_awaited_member(member))
    return made


def _member(member: dict[str, Any]) -> list[str]:
    returns = _plain_stream(member["returns"] or "Any")
    if member["kind"] == "attribute":
        return [f"    {member['name']}: {returns}"]
    if member["kind"] == "property":
        return ["", "    @property", *_function(member["name"], [], returns, member["text"])]
    return ["", *_function(member["name"], member["parameters"], returns, member["text"])]


def _awaited_member(member: dict[str, Any]) -> list[str]:
    name, returns = member["name"], member["returns"] or "Any"
    if name == "__iter__":
        return ["", *_function("__aiter__", [], _awaited_stream(returns), member["text"])]
    returns = _awaited_stream(returns)
    if member["kind"] != "method":
        return ["", "    @property", *_function(name, [], f"Awaitable[{returns}]", member["text"])]
    name = {"__enter__": "__aenter__", "__exit__": "__aexit__"}.get(name, name)
    return ["", *_function(name, member["parameters"], returns, member["text"], "async def")]


def _plain_stream(returns: str) -> str:
    """What a type is where nothing is awaited: the items of an asynchronous generator come one by one, too."""
    return re.sub(r"^AsyncGenerator\[(.*), [^,\]]*\]$", r"Iterator[\1]", returns).replace("AsyncItera", "Itera")


def _awaited_stream(returns: str) -> str:
    """What a type is where it is awaited: items come with ``async for``."""
    if not _STREAM.match(returns):
        return returns
    inside = _STREAM.sub("", returns, count=1).removesuffix("]")
    if "Generator[" in returns[:16]:
        inside = _first_argument(inside)
    return f"AsyncIterator[{inside}]"


def _first_argument(arguments: str) -> str:
    depth = 0
    for index, sign in enumerate(arguments):
        depth += (sign in "[(") - (sign in "])")
        if sign == "," and not depth:
            return arguments[:index]
    return arguments


def _function(name: str, parameters: list[list[Any]] | None, returns: str, text: str, begin: str = "def") -> list[str]:
    words = ["self", *_parameters(parameters)]
    head = f"    {begin} {name}({', '.join(words)}) -> {returns}:"
    lines = [head]
    if len(head) + 4 > _WIDTH:
        lines = [f"    {begin} {name}(", *(f"        {word}," for word in words), f"    ) -> {returns}:"]
    if text:
        return [*lines, f'        """{_quoted(text)}"""', "        ..."]
    lines[-1] += " ..."
    return lines


def _parameters(parameters: list[list[Any]] | None) -> list[str]:
    if parameters is None:
        return ["*args: Any", "**kwargs: Any"]
    words: list[str] = []
    last: int = Parameter.POSITIONAL_ONLY
    for index, (name, kind, has_default, annotation) in enumerate(parameters):
        if index and last == Parameter.POSITIONAL_ONLY != kind:
            words.append("/")
        if kind == Parameter.KEYWORD_ONLY and last not in (Parameter.KEYWORD_ONLY, Parameter.VAR_POSITIONAL):
            words.append("*")
        star = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}.get(kind, "")
        words.append(f"{star}{name}: {annotation or 'Any'}" + (" = ..." if has_default else ""))
        last = kind
    if parameters and last == Parameter.POSITIONAL_ONLY:
        words.append("/")
    return words


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "'")
