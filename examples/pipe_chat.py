"""A chat over a named pipe: two processes, no socket, no port.

Run it as it is: it serves, and starts a second Python that connects. Or run ``pipe_chat.py serve`` in one terminal and
``pipe_chat.py talk`` in another.
"""

from __future__ import annotations

import subprocess
import sys

from cloister import pipes
from cloister.errors import PipeTimeout

NAME = "chat-example"


def serve() -> None:
    """Answer one guest until it leaves."""
    with pipes.PipeServer(NAME, max_instances=1) as server, server.accept(timeout=20) as guest:
        print(f"server: process {guest.peer.pid} came in")
        guest.write_string("Welcome! Say something.")
        for message in guest:  # ends when the guest closes its end
            text = message.decode()
            print(f"server: heard {text!r}")
            guest.write_string(f"You said {text}, in {len(text)} characters.")
        print("server: the guest left")


def talk() -> None:
    """Be the guest."""
    with pipes.connect(NAME, timeout=20) as pipe:
        print(f"guest:  {pipe.read_string(timeout=5)}")
        for text in ("hello", "안녕하세요", ""):
            pipe.write_string(text)
            print(f"guest:  {pipe.read_string(timeout=5)}")
        try:
            pipe.read_string(timeout=0.1)
        except PipeTimeout:
            print("guest:  nothing more to hear; goodbye")


def main() -> None:
    """Serve and talk at once, or what the command line says."""
    if sys.argv[1:] == ["talk"]:
        talk()
    elif sys.argv[1:] == ["serve"]:
        serve()
    else:
        with subprocess.Popen([sys.executable, __file__, "talk"]):
            serve()


if __name__ == "__main__":
    main()
