"""What reads the files: one module for each kind, none of which is imported by the server.

Each has ``read(path)``, which returns a line of text, as a plug-in from somebody else would: it uses the library that
one uses for such files, and has the defects that such code has.
"""
