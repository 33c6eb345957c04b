"""The program: it sends messages to its modules. `program.py isolated` takes the other factory."""

from __future__ import annotations

import importlib
import sys

make = importlib.import_module("factory_isolated" if "isolated" in sys.argv else "factory").make

mailer, printer = make("mailer"), make("printer")
for module, message in [(mailer, "hello"), (printer, "a page"), (printer, ""), (mailer, "are you there?")]:
    try:
        print(module.handle(message), flush=True)
    except Exception as error:  # the program has always logged what fails, and gone on
        print("failed:", str(error).splitlines()[0].split("(process")[0], flush=True)
