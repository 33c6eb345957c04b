"""``python -m cloister``: the command `cloister`, where no script is installed for it."""

import sys

from cloister.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
