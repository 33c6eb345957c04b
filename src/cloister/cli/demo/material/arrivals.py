"""The list of the files in the order in which they come in, with what is wrong with each, and `write`.

After each fault come good files of the same kind: they show that the module is back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cloister.cli.demo.material import containers, papers, pictures

__all__ = ["write"]

_SEA = ("#001233", "#0a9396", "#e9f5db")
_FIRE = ("#10002b", "#e85d04", "#ffe8a3")
_MOSS = ("#081c15", "#52b788", "#f1faee")
_WHOLE, _VALLEY, _SPIRAL = (-2.2, -1.2, 1.0, 1.2), (-0.8, 0.05, -0.7, 0.15), (-0.7518, 0.1062, -0.7388, 0.1192)


def write(folder: Path) -> dict[str, str]:
    """Write all files into a folder; return for each name what is wrong with it, empty for a good one."""
    faults = {}
    for number, (name, content, fault) in enumerate(_arrivals(), 1):
        numbered = f"{number:02}-{name}"
        (folder / numbered).write_bytes(content)
        faults[numbered] = fault
    return faults


def _arrivals() -> Iterator[tuple[str, bytes, str]]:
    """(name, bytes, what is wrong)."""
    png = pictures.fractal(_VALLEY, _FIRE, "PNG")
    jpeg = pictures.sunrise(_FIRE, "JPEG")
    gif = pictures.moving(12)
    poem = papers.pdf("Ozymandias", [papers.OZYMANDIAS])
    book = papers.pdf("Two poems", [papers.OZYMANDIAS, papers.TYGER])
    shop = papers.orders(1001, [("pencil", 12, 0.35), ("paper", 2, 4.5), ("ink", 1, 7.25)])
    access = papers.log(400)
    backup = containers.packed(access)
    archive = containers.zipped({"planets.csv": papers.csv(papers.PLANETS), "tyger.txt": papers.TYGER.encode()})

    yield "planets.csv", papers.csv(papers.PLANETS), ""
    yield "mandelbrot.png", pictures.fractal(_WHOLE, _SEA, "PNG"), ""
    yield "ozymandias.pdf", poem, ""
    yield "access-monday.log", access, ""
    yield "logo.bmp", pictures.bitmap(_SEA), ""
    yield "orders-1001.json", shop, ""
    yield "sunrise.jpg", jpeg, ""
    yield "contract.tif", pictures.fax(3), ""
    yield "holiday.zip", archive, ""
    yield "monday.gz", backup, ""
    yield "half.png", png[: len(png) // 2], "truncated"
    yield "notes.txt", papers.TYGER.encode(), "nobody reads this kind"
    yield "banner.bmp", pictures.lying_bitmap(_FIRE), "the header points 3.75 GiB past the end"
    yield "banner-again.bmp", pictures.bitmap(_FIRE), ""
    yield "elements.csv", papers.csv(papers.ELEMENTS, 200), ""
    yield "access-tuesday.log", papers.log(300, f'192.0.2.7 [2026-03-03] "{"a" * 48} 200'), "runaway regular expression"
    yield "access-wednesday.log", papers.log(500), ""
    yield "zoom.gif", gif, ""
    yield "signed.tif", pictures.empty_page_fax(2), "a page without strips"
    yield "signed-again.tif", pictures.fax(2), ""
    yield "bomb.zip", containers.bomb(16, 64 * 2**20), "archive bomb: 1 GiB"
    yield "letters.zip", containers.zipped({"inner.zip": archive, "ozymandias.txt": papers.OZYMANDIAS.encode()}), ""
    yield "tuesday.gz", containers.torn_sum(access * 3), "wrong check sum"
    yield "wednesday.gz", containers.packed(papers.log(900)), ""
    yield "orders-1004.json", papers.orders(1004, [("stamps", 10, 0.95), ("pencil", -5, 0.35)]), "a count below one"
    yield "orders-1006.json", papers.orders(1006, [("atlas", 1, 48.9)]), ""
    yield "poster.png", pictures.huge_png(60_000, 60_000), "decompression bomb: 3.6 gigapixels"
    yield "valley.png", png, ""
    yield "half.pdf", book[: len(book) // 2], "truncated"
    yield "poems.pdf", book, ""
    yield "mixed.csv", papers.csv(papers.MOUNTAINS) + b"Denali,6190,\xff\xfe,,\n", "a torn row, no text"
    yield "mountains.csv", papers.csv(papers.MOUNTAINS), ""
    yield "scratched.jpg", jpeg[:200] + bytes(3000), "damaged"
    yield "spiral.jpg", pictures.fractal(_SPIRAL, _MOSS, "JPEG"), ""
    yield "half.zip", archive[:-60], "truncated"
    yield "deep.json", b"[" * 200_000, "nested 200,000 deep"
    yield "orders-1007.json", papers.orders(1007, [("globe", 1, 120.0), ("ink", 3, 7.25)]), ""
    yield "half.gz", backup[: len(backup) // 2], "truncated"
    yield "photo.gif", b"\xff\xd8\xff\xe0 not a GIF", "not what its name says"
    yield "moss.gif", pictures.fractal(_VALLEY, _MOSS, "GIF"), ""
    yield "tyger.pdf", papers.pdf("The Tyger", [papers.TYGER]), ""
    yield "thursday.gz", containers.packed(papers.log(100)), ""
    yield "footer.bmp", pictures.bitmap(_MOSS), ""
    yield "access-thursday.log", papers.log(250), ""
