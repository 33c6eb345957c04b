"""A pool of domains as a `concurrent.futures.Executor`.

`pool` is the interface, `work` what is to be done, `workforce` who does it and when, `worker` one domain of it,
`clocks` what is late.
"""
