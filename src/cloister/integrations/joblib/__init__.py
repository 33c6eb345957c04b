"""joblib with domains as its workers: importing this registers the backend ``"cloister"``.

.. code-block:: python

    import cloister.integrations.joblib
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="cloister", n_jobs=4):
        Parallel()(delayed(work)(item) for item in items)

The keyword arguments of `parallel_config` and `Parallel` beside joblib's own are those of `DomainPoolExecutor`, such as
``setup`` and ``task_timeout``. A worker that dies costs the batch that it ran: the call raises `DomainCrashed`. Results
must be values that can be copied; what would come back as a proxy is refused with `MarshalError`, because the workers
end with the call.

``allow_pickle=True`` lets the workers pickle their results, which are unpickled here: any result travels then, such as
a fitted model of scikit-learn. Who unpickles runs what the worker says, so it is for code that you trust.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from joblib import cpu_count, register_parallel_backend
from joblib._parallel_backends import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from cloister.domain.setup import Setup
from cloister.errors import MarshalError
from cloister.executor.pool import DomainPoolExecutor
from cloister.objects.marks import code

__all__ = ["CloisterBackend"]

_OF_JOBLIB: Final = frozenset({"context", "max_nbytes", "mmap_mode", "temp_folder", "verbose"})
"""Options that joblib hands to every backend. They are about its own ways to pass arrays."""


class CloisterBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """A backend of joblib over a `DomainPoolExecutor`."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    _pool: DomainPoolExecutor | None = None
    _allow_pickle = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers there will be: as for joblib's own backends, -1 is one for each CPU."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None, **options: Any
    ) -> int:
        """Make the pool; called at the beginning of a `Parallel` call."""
        workers = self.effective_n_jobs(n_jobs)
        if workers == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        options = {"name": "joblib", **self.backend_kwargs, **options}
        options = {name: value for name, value in options.items() if name not in _OF_JOBLIB}
        given = dict(options)
        self._allow_pickle = bool(options.pop("allow_pickle", False))
        setup = options.pop("setup", None) or Setup()
        environment = {**self._prepare_worker_env(n_jobs=workers), **setup.extra_env}
        self.parallel, self._options = parallel, given | {"setup": setup}
        self._pool = DomainPoolExecutor(workers, setup=dataclasses.replace(setup, extra_env=environment), **options)
        self._pool._copies = True
        return workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None) -> Future[Any]:
        """Run a batch."""
        assert self._pool is not None
        future = self._pool.submit(_as_pickle, code(func)) if self._allow_pickle else self._pool.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def apply_async(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None
    ) -> Future[Any]:
        """As `submit`, for joblib before 1.5."""
        return self.submit(func, callback)

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The results of a batch that is done."""
        try:
            results = out.result()
        except MarshalError as error:
            if not self._allow_pickle:
                error.add_note("results of joblib's tasks are copied; allow_pickle=True pickles them, for trusted code")
            raise
        return pickle.loads(results) if self._allow_pickle else results  # noqa: S301  # its user has asked for it

    def terminate(self) -> None:
        """End the workers; called at the end of a `Parallel` call."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Kill the workers, because a batch has failed."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.kill_workers()
            pool.shutdown()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self._options)


def _as_pickle(func: Callable[[], Any]) -> bytes:
    """Run a batch in a worker; its results, pickled."""
    import cloudpickle

    data: bytes = cloudpickle.dumps(func(), protocol=pickle.HIGHEST_PROTOCOL)
    return data


register_parallel_backend("cloister", CloisterBackend)
