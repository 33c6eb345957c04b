"""What a host hands out shows its public methods and nothing else; whoever reaches for more ends its domain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import cloister
from cloister.objects import imports, schema
from cloister.objects.exports import Exports
from cloister.objects.peer import Peer
from cloister.objects.rule import Marshaller
from cloister.wire.limits import DEFAULT_LIMITS
from cloister.wire.reference import Reference
from tests.patience import wait_until


@cloister.by_reference
class Till:
    """An object of the host with more than a guest may see."""

    limit = 5

    def __init__(self) -> None:
        self.money = 100

    def pay(self, amount: int = 1) -> int:
        """Pay something."""
        self.money -= amount
        return self.money

    @property
    def code(self) -> str:
        raise AssertionError("a property of a host's object was read")

    def _empty(self) -> None:
        raise AssertionError("a private method was called")

    def __len__(self) -> int:
        return self.money

    def __deepcopy__(self, memo: object) -> Any:
        raise AssertionError("a special method that is not on the list was called")


@pytest.fixture
def fresh(setup: cloister.Setup) -> Iterator[cloister.Domain]:
    """A domain that its guest may end."""
    with cloister.Domain("fresh", setup=setup) as made:
        yield made


def test_shared_object_shows_its_public_methods_only(domain: cloister.Domain) -> None:
    """The guest's `dir`, docstrings and signatures of a host's object show public methods, and no attribute."""
    seen = domain.call(lambda till: [name for name in dir(till) if not name.startswith("_")], Till())
    assert seen == ["pay"]
    assert domain.call(lambda till: till.pay(2), Till()) == 98
    assert domain.call("builtins:len", Till()) == 100
    assert domain.call(lambda till: str(__import__("inspect").signature(till.pay)), Till()) == "(amount=1)"


@pytest.mark.parametrize("name", ["money", "limit", "code", "no_such_name"])
def test_attribute_of_a_shared_object_is_not_reached(domain: cloister.Domain, name: str) -> None:
    """Attributes, class attributes and properties of a host's object are refused, without running the property."""
    with pytest.raises(AttributeError, match="only its public methods"):
        domain.call("operator:attrgetter", name)(Till())
    till = Till()
    with pytest.raises(AttributeError, match="only its public methods"):
        domain.call("intruder:call", till, "__setattr__", name, 1)
    with pytest.raises(AttributeError, match="only its public methods"):
        domain.call("intruder:call", till, "__delattr__", name)
    assert till.money == 100


@pytest.mark.parametrize(
    "name",
    ["_empty", "__deepcopy__", "__class__", "__dict__", "__reduce_ex__", "__init__", "__init_subclass__", "__globals__",
     "money", "code", "", "pay.__func__", "__getattr__", "__subclasshook__"],
)  # fmt: skip
def test_method_that_was_not_shown_is_not_called(domain: cloister.Domain, name: str) -> None:
    """A guest that names a private, special or other method by itself gets an AttributeError; the domain goes on."""
    with pytest.raises(AttributeError):
        domain.call("intruder:call", Till(), name)


@pytest.mark.parametrize("name", ["_empty", "__class__", "__dict__", "__globals__"])
def test_private_attribute_is_refused_by_the_host_too(domain: cloister.Domain, name: str) -> None:
    """A guest that leaves out the check of its own proxy is refused here."""
    with pytest.raises(AttributeError, match="not a public name"):
        domain.call("intruder:call", Till(), "__getattribute__", name)


def test_host_has_no_service_for_its_guests(domain: cloister.Domain) -> None:
    """A guest can't ask its host to create, call or run anything."""
    for name in ("create", "eval", "exec", "call", "ping"):
        with pytest.raises(AttributeError, match="no service"):
            domain.call("intruder:call_service", Till(), name)


def _ends_as_bad_message(domain: cloister.Domain, *call: Any) -> str:
    with pytest.raises(cloister.DomainCrashed) as caught:
        domain.call(*call)
    assert caught.value.report is not None
    assert caught.value.report.reason is cloister.Reason.BAD_MESSAGE
    return caught.value.report.detail


def test_guest_that_calls_what_it_was_never_given_ends(fresh: cloister.Domain, domain: cloister.Domain) -> None:
    """Bad input: a call to an id that was never handed out ends that domain as a bad message; another goes on."""
    detail = _ends_as_bad_message(fresh, "intruder:call_neighbour", Till(), "pay")
    assert "was never handed out" in detail
    assert domain.call("operator:add", 1, 2) == 3


FORBIDDEN = [
    (2, "name", "os:getpid"), (2, "value", b"cos\nsystem\n", [3, 11]), (1, 999), (1, 1, "__class__"), (1, 1, "x", 2),
    (0, 1, 999, None), (0, -1, 1, None), (0, True, 1, None), (0, 1, "1", None), (9, 1), (1,), (), (None, None),
]  # fmt: skip


@pytest.mark.parametrize("fields", FORBIDDEN)
def test_reference_that_no_guest_may_send_is_refused(fields: tuple[Any, ...]) -> None:
    """Bad input: code sent up, unknown objects, methods that were not shown and malformed references are refused."""
    peer = Peer("a guest", True, {}, DEFAULT_LIMITS)
    peer.exports.hand_out(Till(), peer.exports.view(Till))
    with pytest.raises(cloister.ProtocolError):
        Marshaller(peer).inbound(Reference(fields))


@pytest.mark.parametrize("fields", [FORBIDDEN[0], FORBIDDEN[2], FORBIDDEN[5]], ids=["code", "unknown", "undescribed"])
def test_reference_that_no_guest_may_send_ends_its_domain(fresh: cloister.Domain, fields: tuple[Any, ...]) -> None:
    """Bad input: a guest that sends such a reference ends as a bad message."""
    _ends_as_bad_message(fresh, "intruder:send_reference", print, *fields)


DESCRIPTION = ["a:B", ["a:B"], "", [], [], []]
HOSTILE = [
    (0, "a\0:B"), (0, "a:\ud800"), (0, 5), (0, "x" * 513), (0, "a:\x1b[31mred"),
    (1, ["x"] * 65), (1, "abc"), (1, [1]),
    (2, "\0"), (2, "\ud800"), (2, "x" * 20_000),
    (3, [["_secret", "", None]]), (3, [["__init__", "", None]]), (3, [["a b", "", None]]), (3, [["m", ""]]),
    (3, [["m", "", [["class", 1, None]]]]), (3, [["m", "", [["a", 7, None]]]]), (3, [["m", "", [["a", 2, "1"]]]]),
    (3, [["m", "", [["a", 1, "\n"]]]]), (3, [["m", "", None]] * 5000), (3, [["m", "x" * 10_000, None]] * 100),
    (4, [["_x", ""]]), (4, ["x"]),
    (5, ["__class__"]), (5, ["__del__"]), (5, ["__getattribute__"]), (5, [["a"]]), (5, None), (5, ["__add__"] * 200),
]  # fmt: skip


@pytest.mark.parametrize(("index", "part"), HOSTILE)
def test_hostile_description_is_refused(index: int, part: Any) -> None:
    """Bad input: a type described out of bounds, or with names that a proxy must not have, is refused."""
    with pytest.raises(cloister.ProtocolError, match="description of a type"):
        schema.from_plain([*DESCRIPTION[:index], part, *DESCRIPTION[index + 1 :]])


@pytest.mark.parametrize("plain", [None, 5, [], DESCRIPTION[:5], [*DESCRIPTION, 1], {}, "abcdef"])
def test_what_is_no_description_is_refused(plain: Any) -> None:
    """Bad input: what has not the six parts of a description is refused."""
    with pytest.raises(cloister.ProtocolError, match="description of a type"):
        schema.from_plain(plain)


def test_hostile_description_ends_its_domain(fresh: cloister.Domain) -> None:
    """Bad input: a guest that describes a type so ends; the harmless description that it began with was taken."""
    assert fresh.call("intruder:describe_as", repr, *DESCRIPTION).startswith("<proxy of a.B #")
    hostile = ["a\0:B", *DESCRIPTION[1:]]
    assert "description of a type" in _ends_as_bad_message(fresh, "intruder:describe_as", repr, *hostile)


@pytest.mark.parametrize(
    "release", [[999, 1, 0], [1, 5, 0], [1, 0, 0], [1, -1, 0], [1, 1], ["1", 1, 0], [1, True, 0], 5]
)
def test_release_of_what_was_never_sent_is_refused(release: Any) -> None:
    """Bad input: a release of unknown objects, too often, or of the wrong form is refused and takes nothing back."""
    exports = Exports(open_attributes=False)
    exports.hand_out(Till(), exports.view(Till))
    with pytest.raises(cloister.ProtocolError):
        exports.release([release])
    assert len(exports) == 1


def test_release_of_what_was_never_sent_ends_its_domain(fresh: cloister.Domain) -> None:
    """Bad input: a guest that releases more than it got ends."""
    with contextlib.suppress(cloister.DomainCrashed):  # it may end before it has answered
        fresh.call("intruder:release", [1, 5, 0])
    wait_until(lambda: fresh.report is not None)
    assert fresh.report is not None
    assert fresh.report.reason is cloister.Reason.BAD_MESSAGE


def test_flood_of_objects_ends_its_domain(fresh: cloister.Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad input: a guest that hands out more objects than one may hold ends, and nothing of it is kept."""
    monkeypatch.setattr(imports, "MAX_REFERENCES", 1000)
    fresh.call("intruder:flood", len, 900)
    assert "more than 1000 objects" in _ends_as_bad_message(fresh, "intruder:flood", len, 1001)


def test_flood_of_types_ends_its_domain(fresh: cloister.Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad input: a guest that describes more types than one may keep ends."""
    monkeypatch.setattr(imports, "MAX_TYPES", 20)
    fresh.exec("def types(count): return [type(f'T{number}', (), {})() for number in range(count)]")
    assert len(fresh.eval("types(15)")) == 15
    with pytest.raises(cloister.DomainCrashed, match="more than 20 types"):
        fresh.eval("types(15)")


def test_flood_of_descriptions_ends_its_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad input: a guest whose types are described at too great a length, all together, ends."""
    monkeypatch.setattr(imports, "MAX_DESCRIPTIONS", 100_000)
    with cloister.Domain("small", setup=cloister.Setup()) as small:
        small.exec(
            "def types(count): return [type(f'T{each}', (), {'__doc__': 'x' * 10_000})() for each in range(count)]"
        )
        assert len(small.eval("types(5)")) == 5
        with pytest.raises(cloister.DomainCrashed, match="at too great a length"):
            small.eval("types(6)")
