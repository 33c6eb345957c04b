"""Contexts: parts of one domain that share rules, such as "one thread at a time".

`context` is the context itself, and which one the running code is in; `turn` lets one thread at a time into it, first
come, first served; `slots` is its data; `rules` says what a class asks for, and finds the context of a new object;
`bound` makes the classes whose objects live in one context, and the proxies by which the others reach them.

All of it is within one domain, and works the same in a host and in a guest. What crosses the wall of a domain is in
`cloister.objects`; all that it needs to know is in `cloister.calling.entered`.
"""
