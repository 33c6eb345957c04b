"""A module of the program in this folder, as it was before domains."""

from __future__ import annotations

from modules import Module


class Mailer(Module):
    """Sends mails; counts them."""

    def __init__(self) -> None:
        self.sent = 0

    def handle(self, message: str) -> str:
        """Take a message."""
        self.sent += 1
        return f"mail {self.sent}: {message}"
