"""Tells PyInstaller what cloister imports by name. Run by PyInstaller, not by cloister."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_submodules  # type: ignore[import-not-found,import-untyped,unused-ignore]  # only there

# Libraries whose values can travel are taken along where the application itself uses them, not because cloister could.
excludedimports = ["numpy", "pandas", "polars", "pyarrow", "rich", "PIL", "pypdf"]

hiddenimports = [*collect_submodules("cloister"), *collect_submodules("msgpack"), "cloudpickle", "psutil"]
