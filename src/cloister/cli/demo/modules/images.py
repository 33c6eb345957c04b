"""PNG, JPEG and GIF images, with Pillow. A well-behaved module: what it can't read, it refuses with an exception."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageStat

__all__ = ["read"]


def read(path: Path) -> str:
    """Say what the image shows. Raises OSError for a damaged file, and Pillow's own errors."""
    with Image.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        colour = "".join(f"{int(mean):02x}" for mean in ImageStat.Stat(image.convert("RGB")).mean)
        moving = f", {frames} frames" if frames > 1 else ""
        return f"{image.format} {image.width} × {image.height}{moving}, mean colour #{colour}"
