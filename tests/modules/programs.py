"""A program with arguments and an exit code; run as ``python -m programs``."""

import sys

if __name__ == "__main__":
    print("arguments:", *sys.argv[1:])
    if sys.argv[1:2] == ["raise"]:
        raise LookupError("the program raised")
    if sys.argv[1:2] == ["text"]:
        sys.exit("a text")
    if sys.argv[1:]:
        sys.exit(int(sys.argv[1]))
