"""A pool of domains as a `concurrent.futures.Executor`.

`pool` is the interface, `work` what is to be done, `futures` what is given for it. `workforce` is all workers and what
waits for them, `hiring` how they come, `handing` who gets what and how that ends, `worker` one domain of it with what
it has; `callbacks` runs done-callbacks, `clocks` finds what is late, `seats` who waits for whom.
"""
