"""Virtual environments for domains: made once from what was asked for, kept in the user's cache, shared.

`spec` says what an environment is made from, `sources` where packages come from, `pythons` which interpreter, `store`
where environments are and who may remove them, `build` makes one with uv. Nothing here knows domains or messages.
"""
