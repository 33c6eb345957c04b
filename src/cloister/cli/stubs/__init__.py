"""``cloister stubs``: a Protocol for a class of somebody else's, printed without importing it here.

`inspection` runs in a domain and tells plain data, `annotations` is its part that names types, `protocol` turns the
data into text, `command` reads the words of the command line.
"""
