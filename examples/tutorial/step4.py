"""Step 4: a call that never returns. A time-out ends the call; the domain and its state stay."""

from __future__ import annotations

from pathlib import Path

import cloister

HERE = Path(__file__).parent
CAPTIONS = ["a quiet harbour", "a harbour at night as seen from the old lighthouse!", "boats"]

with cloister.Domain("pictures", setup=cloister.Setup(path=[HERE / "plugins"])) as domain:
    decoder = domain.create("pictures:Decoder")
    decoder.brightness((HERE / "uploads" / "ada.pic").read_bytes())
    for caption in CAPTIONS:
        try:
            with cloister.timeout(0.5):  # every call inside shares the half second, nested calls too
                print("title:", decoder.title(caption))
        except cloister.CallTimeout:
            print("no title: it took too long")
    print("the domain still knows what it has decoded:", decoder.decoded)
