"""A module that never gets loaded. Its file says where to say so."""

from __future__ import annotations

import importlib
import os

importlib.import_module("spinning").spin(os.environ["SPINNING_MARK"])
