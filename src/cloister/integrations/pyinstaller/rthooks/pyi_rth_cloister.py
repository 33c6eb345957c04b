"""Runs in a frozen application before its main module: a process that is started as a guest serves, and ends."""

from __future__ import annotations

import os
import sys

if os.environ.pop("CLOISTER_FROZEN_GUEST", None) is not None:
    from cloister.guest.boot import main

    main()
    sys.exit()
