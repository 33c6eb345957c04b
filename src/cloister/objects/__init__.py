"""Values and references: what is copied, what stays and is reached by a proxy, and what a proxy is.

`rule` decides, and only it. `exports` holds what this side handed out, `imports` what it received; `proxies` makes
classes of proxies from `descriptions`, which travel as `schema` says; `dispatch` serves a call that arrived; `targets`
and `pickles` bring code down; `marks` and `handles` are what a program says. `peer` is the other side of the wall as
objects see it, and ties all of this together.
"""
