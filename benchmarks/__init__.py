"""Measurements against the floor and the peers, all in one run. `python -m benchmarks` runs them.

Not part of the package. Each `bench_….py` answers one question and offers `run() -> list[Table]`; how to measure is in
harness.py.
"""
