"""Inspection: what classes and functions some code has, told from its text, without running any of it.

`listing` is the result, plain data; `reading` makes the listing of one module from its source; `places` finds the
modules of a file, a folder, an archive or a name. Nothing is imported, and whatever a source contains is either listed
or named as an error of its module: all is bounded.
"""
