"""PDF documents, with pypdf. Its own exceptions are unknown to the server, which hears their name and message."""

from __future__ import annotations

from pathlib import Path

from pypdf import PdfReader

__all__ = ["read"]


def read(path: Path) -> str:
    """Count pages and words. Raises pypdf's errors for a damaged file."""
    reader = PdfReader(path, strict=True)
    words = sum(len(page.extract_text().split()) for page in reader.pages)
    title = reader.metadata.title if reader.metadata else None
    return f"“{title or 'without a title'}”, {len(reader.pages)} page(s), {words} words"
