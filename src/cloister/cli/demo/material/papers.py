"""Papers: documents as PDF, tables as CSV, orders as JSON, the log of a web server. Facts, and poems free to use."""

from __future__ import annotations

import json
import zlib

__all__ = ["ELEMENTS", "MOUNTAINS", "OZYMANDIAS", "PLANETS", "TYGER", "csv", "log", "orders", "pdf"]

# Percy Bysshe Shelley, 1818.
OZYMANDIAS = """\
I met a traveller from an antique land,
Who said: Two vast and trunkless legs of stone
Stand in the desert. Near them, on the sand,
Half sunk a shattered visage lies, whose frown,
And wrinkled lip, and sneer of cold command,
Tell that its sculptor well those passions read
Which yet survive, stamped on these lifeless things,
The hand that mocked them, and the heart that fed;"""

# William Blake, 1794.
TYGER = """\
Tyger Tyger, burning bright,
In the forests of the night;
What immortal hand or eye,
Could frame thy fearful symmetry?"""

PLANETS = """\
planet,moons,orbit_years,radius_km
Mercury,0,0.241,2440
Venus,0,0.615,6052
Earth,1,1,6371
Mars,2,1.881,3390
Jupiter,95,11.86,69911
Saturn,146,29.46,58232
Uranus,28,84.01,25362
Neptune,16,164.8,24622"""

ELEMENTS = """\
number,symbol,name,mass
1,H,hydrogen,1.008
2,He,helium,4.0026
3,Li,lithium,6.94
4,Be,beryllium,9.0122
5,B,boron,10.81
6,C,carbon,12.011
7,N,nitrogen,14.007
8,O,oxygen,15.999
9,F,fluorine,18.998
10,Ne,neon,20.180"""

MOUNTAINS = """\
mountain,metres
Everest,8849
K2,8611
Kangchenjunga,8586
Lhotse,8516
Makalu,8485"""


def pdf(title: str, pages: list[str]) -> bytes:
    """A document of one column of text, built by hand: catalogue, pages, a font, a compressed stream for each page."""
    numbers = [5 + 2 * index for index in range(len(pages))]
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Title ({title}) >>".encode(),
    ]
    for number, text in zip(numbers, pages, strict=True):
        lines = "".join(f"({line}) Tj T*\n" for line in text.splitlines())
        stream = zlib.compress(f"BT /F1 12 Tf 16 TL 72 770 Td\n{lines}ET".encode("latin-1"))
        page = "/Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page {page} /Contents {number + 1} 0 R >>".encode())
        head = f"<< /Length {len(stream)} /Filter /FlateDecode >>\nstream\n".encode()
        objects.append(head + stream + b"\nendstream")
    return _with_places(objects)


def _with_places(objects: list[bytes]) -> bytes:
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{len(data)}\n%%EOF\n"
    return data + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def csv(table: str, times: int = 1) -> bytes:
    """A table, its rows `times` times over."""
    head, *rows = table.splitlines()
    return "\n".join([head, *rows * times, ""]).encode()


def orders(first: int, lines: list[tuple[str, int, float]]) -> bytes:
    """Orders of one line each, numbered from `first`."""
    found = [
        {"order": number, "lines": [{"item": item, "count": count, "price": price}]}
        for number, (item, count, price) in enumerate(lines, first)
    ]
    return json.dumps(found, indent=1).encode()


def log(requests: int, extra: str = "") -> bytes:
    """The log of a web server; `extra` is a line that comes in the middle."""
    codes = (200, 200, 200, 404)
    lines = [
        f'192.0.2.{number % 250} [2026-03-{1 + number % 28:02}] "get/page/{number % 17}/" {codes[number % 4]}'
        for number in range(requests)
    ]
    lines[requests // 2 : requests // 2] = [extra] if extra else []
    return "\n".join(lines).encode()
