"""Step 2: the plug-in moves into a domain. It still crashes; the server does not."""

from __future__ import annotations

from pathlib import Path

from cloister import Domain, DomainCrashed, Setup

HERE = Path(__file__).parent
# Where the domain finds the plug-in. Nothing of it is imported here.
SETUP = Setup(path=[HERE / "plugins"])


def start() -> Domain:
    """A new domain. This returns at once: the domain gets ready while we go on."""
    return Domain("pictures", setup=SETUP)


domain = start()
# A proxy: it looks and works like the decoder over there.
decoder = domain.create("pictures:Decoder")
for upload in sorted((HERE / "uploads").iterdir()):
    try:
        print(upload.stem, decoder.brightness(upload.read_bytes()))
    except ValueError as error:
        print(upload.stem, "is told:", error)
    except DomainCrashed:
        print(upload.stem, "is told: this picture is damaged")
        domain = start()
        decoder = domain.create("pictures:Decoder")
print("all served")
domain.unload()
