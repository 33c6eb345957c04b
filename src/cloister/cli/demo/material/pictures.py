"""Pictures, computed by Pillow: the Mandelbrot set and gradients, as cameras, screens and fax machines store them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageOps

__all__ = ["bitmap", "empty_page_fax", "fax", "fractal", "huge_png", "lying_bitmap", "moving", "sunrise"]

_SIZE = (320, 200)


def fractal(extent: tuple[float, float, float, float], colours: tuple[str, str, str], format_name: str) -> bytes:
    """A piece of the Mandelbrot set, from (x0, y0) to (x1, y1), in three colours."""
    plane = Image.effect_mandelbrot(_SIZE, extent, 90)
    return _encoded(ImageOps.colorize(plane, *colours), format_name)


def sunrise(colours: tuple[str, str, str], format_name: str) -> bytes:
    """A disc of light that fades to the edges."""
    return _encoded(ImageOps.colorize(Image.radial_gradient("L"), *colours).resize(_SIZE), format_name)


def moving(frames: int) -> bytes:
    """A GIF that zooms into the Mandelbrot set."""
    zooms = [0.7**step for step in range(frames)]
    # It stays in view at every zoom: the end of the needle at x = -1.25.
    views = [Image.effect_mandelbrot((96, 60), (-1.25 - z, -z, -1.25 + z, z), 60).convert("P") for z in zooms]
    return _encoded(views[0], "GIF", save_all=True, append_images=views[1:], duration=80, loop=0)


def bitmap(colours: tuple[str, str, str]) -> bytes:
    """A BMP of 24 bits, small enough to be whole in memory twice."""
    return _encoded(ImageOps.colorize(Image.linear_gradient("L"), *colours).resize((160, 100)), "BMP")


def lying_bitmap(colours: tuple[str, str, str]) -> bytes:
    """A BMP whose header says that the pixels begin 3.75 GiB further on."""
    data = bytearray(bitmap(colours))
    struct.pack_into("<I", data, 10, 0xF0000000)
    return bytes(data)


def fax(pages: int) -> bytes:
    """A TIFF of black and white pages."""
    views = [Image.radial_gradient("L").rotate(20 * page).convert("1") for page in range(pages)]
    return _encoded(views[0], "TIFF", save_all=True, append_images=views[1:], compression="raw")


def empty_page_fax(pages: int) -> bytes:
    """The same, but the first page has lost the tag that says where its strips are."""
    data = bytearray(fax(pages))
    (directory,) = struct.unpack_from("<4xI", data)
    (entries,) = struct.unpack_from("<H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, entry)[0] == 273:
            struct.pack_into("<H", data, entry, 65000)  # a tag of nobody's
    return bytes(data)


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header asks for `width` × `height` pixels of memory."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()
