"""The Python end of a chat with a C# program over a named pipe. What is typed here appears there, and back.

"bye", or the end of the input, ends a side; the program ends when both have said it.
"""

from __future__ import annotations

import sys
import threading

from cloister.errors import PipeClosed
from cloister.pipes import Pipe, PipeServer


def listen(pipe: Pipe) -> None:
    """Print what the other side says."""
    try:
        while (text := pipe.read_string()) != "bye":
            print("C#:", text, flush=True)
    except PipeClosed:
        print("C# has gone")


# style: where a .NET program looks for the name. framing: StreamWriter.WriteLine over there is a message here.
with PipeServer("chat", style="dotnet", framing="line", encoding="utf-8") as server, server.accept() as pipe:
    listener = threading.Thread(target=listen, args=(pipe,), name="listener")
    listener.start()
    for line in sys.stdin:
        if line.strip() == "bye":
            break
        pipe.write_string(line.rstrip("\n"))
    pipe.write_string("bye")
    listener.join()
