"""The files of the demo, made when they are needed, the same bytes each time with the same libraries.

`arrivals` lists them in the order in which they come in, with what is wrong with each; `pictures`, `papers` and
`containers` make them. The texts are in the public domain, the tables are facts, the pictures are computed. The server
has them made in a domain, so that Pillow is never loaded where the server is.
"""
