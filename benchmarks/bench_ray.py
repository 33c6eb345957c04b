"""Ray beside ours, where it is installed: a call, many calls, an array, a start, a death, memory.

It has tables of its own, each with the floor of its question, because its services are at work all the time, which
would be seen in the figures of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import cloister
from benchmarks import (
    bench_arrays,
    bench_call,
    bench_death,
    bench_memory,
    bench_pipelined,
    bench_start,
    dispatch,
    harness,
    ray_peer,
)
from benchmarks.harness import Contestant, Table

ROUNDS = 5
SIZE = 64 << 20
ACTORS = 8
WARM = 4
"""So often Ray does a thing before it is measured: its store and its workers are there then."""
NAME = "Ray, an actor"


def run() -> Iterator[Table]:
    """A table for each question."""
    harness.need("numpy")
    with ray_peer.started() as cluster:
        for title, floors, what, count in _questions():
            for _ in range(WARM):
                cluster(what, count)
            yield harness.contest(
                title,
                {**floors, NAME: partial(ray_peer.contestant, cluster, what, count)},
                rounds=harness.rounds(ROUNDS),
                placement="free",
                unit="ms" if what in ("start", "bytes", "death") else "µs",
            )
        yield _memory(cluster)


def _questions() -> Iterator[tuple[str, dict[str, Contestant], str, int]]:
    """Title, floor and ours, and what Ray is to do."""
    calls: dict[str, Contestant] = {
        "C, Unix socket": partial(bench_call.floor, "free"),
        "cloister, proxied call": bench_call.proxied,
    }
    yield "Call: add(int) -> int, beside Ray", calls, "call", 200
    many = bench_pipelined.MANY
    pipelined: dict[str, Contestant] = {
        "encode + dispatch": partial(dispatch.dispatched, many),
        "cloister, Domain.submit": bench_pipelined.submitted,
    }
    yield f"Pipelined: one of {many:,} calls that are open at once, beside Ray", pipelined, "many", many
    arrays: dict[str, Contestant] = {
        "np.copyto": partial(bench_arrays.copied, SIZE),
        "cloister": partial(bench_arrays.sent, SIZE, "delivered"),
        "cloister, arrays.empty": partial(bench_arrays.sent, SIZE, "delivered", made=True),
    }
    yield f"Arrays: {SIZE >> 20} MiB, delivered, beside Ray", arrays, "bytes", SIZE
    setup = cloister.Setup(template=True, spares=1)
    starts: dict[str, Contestant] = {
        "posix_spawn(/bin/true)": bench_start.floor,
        "cloister, a domain": partial(bench_start.started, cloister.Setup()),
        "cloister, forked, a spare": partial(bench_start.started, setup),
    }
    yield "Start: to the first answer, beside Ray", starts, "start", 1
    deaths: dict[str, Contestant] = {
        "raw end of file": bench_death.floor,
        "cloister, DomainCrashed": bench_death.killed,
    }
    yield "Death: from SIGKILL to the error, beside Ray", deaths, "death", 1


def _memory(cluster: ray_peer.Cluster) -> Table:
    shares: dict[str, Any] = bench_memory.shares(["fresh python + numpy", "cloister, numpy preloaded"], ACTORS)
    shares["Ray, a worker with numpy"] = cluster("memory", ACTORS)
    return harness.table("Memory: share of an idle child, beside Ray", shares, unit="MiB", scale=1 / (1 << 20))
