"""Another module of the program in this folder. Its driver does not survive an empty page."""

from __future__ import annotations

import os

from modules import Module


class Printer(Module):
    """Prints pages."""

    def handle(self, message: str) -> str:
        """Take a message."""
        if not message:
            os.abort()  # what the driver does
        return f"printed {len(message)} letters"
