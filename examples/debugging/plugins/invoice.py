"""The code to debug."""

from __future__ import annotations


def total(amounts: list[float], rate: float) -> float:
    """The sum with the tax; stops at a breakpoint on its way."""
    net = sum(amounts)
    breakpoint()
    return net * (1 + rate)


def rounded(amount: float) -> float:
    """An amount in cents."""
    if amount < 0:
        return -rounded(-amount)
    return round(amount, 2)
