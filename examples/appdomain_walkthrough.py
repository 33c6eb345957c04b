"""Application domains, as .NET's books show them: the default domain, a created one, and one on a thread of its own.

Run it: python examples/appdomain_walkthrough.py [--level thread|interpreter|process]
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import cloister

FOLDER = Path(__file__).parent / "walkthrough"


def in_the_default_domain() -> None:
    here = cloister.current_domain()
    print(f"1. This is domain {here.name!r}, number {here.id}, context {cloister.current_context().id}")
    print("   a program runs here, on this thread; its exit code is", here.run_module("make_reservation"))
    handle = here.create_handle("customers:Customers")
    print("   a handle gives the object itself:", handle.unwrap().list())


def in_created_domain_1(level: str) -> None:
    with cloister.Domain("CreatedDomain1", level=level) as domain:
        handle = domain.create_handle("customers:Customers")
        copy = handle.unwrap()
        print("2. by value:", cloister.is_proxy(handle), cloister.is_proxy(copy), copy.list())
        copy.names.clear()
        print("   the original has not changed:", handle.unwrap().names)
        register = domain.create_handle("customers:Register").unwrap()
        print("   by reference:", cloister.is_proxy(register), register.list())
        try:
            domain.create_handle("customers:Locked").unwrap()
        except cloister.MarshalError as error:
            print("   neither:", type(error).__name__)
    try:
        register.list()
    except cloister.DomainUnloaded as error:
        print(f"   {error}; the copy is still here: {copy.made_in}")


def in_created_domain_2(level: str) -> None:
    with cloister.Domain("CreatedDomain2", level=level) as domain:
        code = domain.run_module("make_reservation", ["MakeReservation"])
    print("   the thread has its exit code:", code, "- Hotel is loaded here:", "hotel" in sys.modules)


if __name__ == "__main__":
    level = sys.argv[2] if sys.argv[1:2] == ["--level"] else "process"
    sys.path.append(str(FOLDER))
    in_the_default_domain()
    in_created_domain_1(level)
    print("3. A thread makes a domain, and runs a program in it:")
    thread = threading.Thread(target=in_created_domain_2, args=(level,))
    thread.start()
    thread.join()
