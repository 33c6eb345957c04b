"""Orders as JSON. Its exception holds a lock, so it can't be pickled; a process pool would lose it."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from pathlib import Path

__all__ = ["OrderRefused", "read"]


class OrderRefused(Exception):
    """An order can't be taken. It keeps the lock of the ledger, as objects that reach into everything do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.ledger = threading.Lock()


def read(path: Path) -> str:
    """Add up the orders. Raises JSONDecodeError, RecursionError, and OrderRefused for what is not for sale."""
    orders = json.loads(path.read_bytes(), parse_float=Decimal)
    total = Decimal(0)
    for order in orders:
        for line in order["lines"]:
            if line["count"] < 1:
                raise OrderRefused(f"order {order['order']}: {line['count']} × {line['item']}")
            total += line["count"] * line["price"]
    return f"{len(orders)} order(s), {total} in all"
