"""Rules of one's own around the calls that enter a context: where they run, what they see and change, and when not."""

from __future__ import annotations

from typing import Any

import pytest

import cloister

seen: list[tuple[str, str, tuple[Any, ...], bool]] = []


def _outside(call: cloister.ContextCall) -> Any:
    seen.append(("outside", call.name, call.args, cloister.current_context().is_default))
    return call.proceed()


def _inside(call: cloister.ContextCall) -> Any:
    seen.append(("inside", call.name, call.args, cloister.current_context() is call.context))
    return call.proceed()


@cloister.intercepted(_outside)
@cloister.synchronized
@cloister.intercepted(_inside)
class Account:
    def __init__(self, balance: int = 0) -> None:
        self.balance = balance

    def add(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    def add_twice(self, amount: int) -> int:
        self.add(amount)
        return self.add(amount)


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def test_rules_stand_where_their_decorators_stand() -> None:
    """S45: a rule above `synchronized` runs in the caller's context, one below it inside, in order."""
    account = Account(1)
    assert account.add(2) == 3
    assert seen == [
        ("outside", "__init__", (1,), True),
        ("inside", "__init__", (1,), True),
        ("outside", "add", (2,), True),
        ("inside", "add", (2,), True),
    ]


def test_calls_within_a_context_meet_no_rule() -> None:
    """S46: a call that stays in its context is direct: the rules see the entry alone."""
    account = Account()
    seen.clear()
    assert account.add_twice(1) == 2
    assert [(where, name) for where, name, _, _ in seen] == [("outside", "add_twice"), ("inside", "add_twice")]


def test_a_rule_may_try_again_change_or_answer_itself() -> None:
    """S45: rules for retry, for changed arguments and results, and one that lets nothing through."""
    attempts: list[int] = []

    def retry(call: cloister.ContextCall) -> Any:
        for _ in range(2):
            try:
                return call.proceed()
            except OSError:
                pass
        return call.proceed()

    def change(call: cloister.ContextCall) -> Any:
        if call.name == "work":
            call.args, call.kwargs = (call.args[0] + 1,), {"factor": 10}
        return call.proceed()

    def closed(call: cloister.ContextCall) -> Any:
        return "closed" if call.name == "open" else call.proceed()

    @cloister.intercepted(retry, change)
    @cloister.synchronized
    @cloister.intercepted(closed)
    class Flaky:
        def work(self, number: int, factor: int = 1) -> int:
            attempts.append(number)
            if len(attempts) < 3:
                raise OSError("not yet")
            return number * factor

        def open(self) -> str:
            return "open"

    flaky = Flaky()
    assert flaky.work(1) == 40  # each try adds one
    assert attempts == [2, 3, 4]
    assert flaky.open() == "closed"


def test_a_rule_rolls_back_what_failed() -> None:
    """S45: a transaction as a rule: what a call raises undoes its changes, inside and before anybody else comes in."""

    def transaction(call: cloister.ContextCall) -> Any:
        book.append("begin")
        try:
            result = call.proceed()
        except Exception:
            book.append("roll back")
            raise
        book.append("commit")
        return result

    book: list[str] = []

    @cloister.synchronized
    @cloister.intercepted(transaction)
    class Ledger:
        def post(self, amount: int) -> int:
            if amount < 0:
                raise ValueError("negative")
            return amount

    ledger = Ledger()
    assert ledger.post(1) == 1
    with pytest.raises(ValueError, match="negative"):
        ledger.post(-1)
    assert book == ["begin", "commit", "begin", "commit", "begin", "roll back"]


def test_rules_alone_make_a_context_without_a_turn() -> None:
    """S46: a class with rules and no synchronization has a context of its own, in which any number of threads is."""

    @cloister.intercepted(_inside)
    class Logged:
        def here(self) -> cloister.Context:
            return cloister.current_context()

        def make(self) -> Any:
            return Logged()

    logged = Logged()
    home = logged.here()
    assert not home.is_default
    assert not home.is_synchronized
    assert logged.make().here() is home  # its maker's context has the rules that it asks for
    assert Logged().here() is not home


def test_reading_an_attribute_meets_the_rules() -> None:
    """S46: an attribute that is read, set or deleted through a proxy is a call under its name."""
    account = Account(1)
    seen.clear()
    account.balance = 5
    assert account.balance == 5
    assert [(where, name, args) for where, name, args, _ in seen if where == "outside"] == [
        ("outside", "balance", (5,)),
        ("outside", "balance", ()),
    ]
