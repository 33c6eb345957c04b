"""How a domain's place is made, waited for, killed and diagnosed. Nothing here knows a message.

`process_posix` is the process level; `watcher` the one thread of a host that watches descriptors and clocks for all
domains; `lifeline` the pipe by which guests end with their host.
"""
