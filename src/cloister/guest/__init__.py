"""What runs inside a domain: our part of a guest.

`boot` brings it up, `host` is the host as the guest sees it, `service` is what a host may ask, `control` the thread
that gives signs of life. All of it is pure Python and imports nothing but the standard library, msgpack and the layers
below, because it also runs in environments that have nothing installed.
"""
