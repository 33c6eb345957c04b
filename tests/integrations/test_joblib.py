"""joblib over domains: `Parallel` with the backend ``"cloister"``."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import cloister
from cloister.errors import CallTimeout, DomainCrashed, MarshalError

joblib: Any = pytest.importorskip("joblib")
pytest.importorskip("cloister.integrations.joblib")

MODULES = Path(__file__).parent.parent / "modules"


def parallel(**options: Any) -> Any:
    """A `Parallel` of two workers."""
    return joblib.Parallel(n_jobs=2, backend="cloister", **options)


def test_parallel_runs_closures_in_domains() -> None:
    """Lambdas and closures run in other processes, and the results come in order."""
    base = 40
    results = parallel()(joblib.delayed(lambda number: (number + base, os.getpid()))(number) for number in range(50))
    assert [result for result, _ in results] == list(range(40, 90))
    pids = {pid for _, pid in results}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_arrays_go_in_and_come_out() -> None:
    """numpy arrays are arguments and results."""
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.full(1000, number) for number in range(6)]
    results = parallel()(joblib.delayed(lambda array: array * 2)(array) for array in arrays)
    assert [result.sum() for result in results] == [2000 * number for number in range(6)]


def test_results_may_be_a_generator() -> None:
    """`return_as="generator"` gives results while later ones are computed."""
    results = parallel(return_as="generator")(joblib.delayed(pow)(2, number) for number in range(10))
    assert list(results) == [2**number for number in range(10)]


def test_one_pool_serves_several_calls() -> None:
    """Within ``with Parallel(…)`` the calls share their workers."""
    with parallel() as pool:
        first = set(pool(joblib.delayed(os.getpid)() for _ in range(20)))
        second = set(pool(joblib.delayed(os.getpid)() for _ in range(20)))
    assert len(first | second) <= 2


def test_exception_and_crash_reach_the_caller() -> None:
    """What a task raises is raised, a crash with its report; the next call works."""
    with pytest.raises(ZeroDivisionError):
        parallel()(joblib.delayed(divmod)(1, number) for number in (1, 0, 1))
    with pytest.raises(DomainCrashed) as caught:
        parallel()(joblib.delayed(signal.raise_signal)(number) for number in (signal.SIGKILL,) * 3)
    assert caught.value.report.signal == signal.SIGKILL
    assert parallel()(joblib.delayed(abs)(number) for number in (-1, -2)) == [1, 2]


def test_options_of_the_pool_are_options_of_the_backend() -> None:
    """`setup` and `task_timeout` of the pool may be given to joblib; unknown ones are refused."""
    setup = cloister.Setup(path=[MODULES])
    config = joblib.parallel_config(backend="cloister", n_jobs=2, setup=setup, task_timeout=0.5)
    with config, pytest.raises(CallTimeout):
        joblib.Parallel()(joblib.delayed(time.sleep)(600) for _ in range(2))
    with pytest.raises(TypeError):
        joblib.Parallel(n_jobs=2, backend="cloister", no_such_option=1)([])


def test_what_cannot_be_copied_is_refused() -> None:
    """A result that would be a proxy into a worker that ends is an error that says so."""
    with pytest.raises(MarshalError):
        parallel()(joblib.delayed(lambda: threading.Lock())() for _ in range(2))


class Model:
    """A class whose objects are not copied."""

    def __init__(self) -> None:
        self.weight = 0

    def fit(self, weight: int) -> Model:
        """Learn."""
        self.weight = weight
        return self


def test_any_result_may_come_as_a_pickle_where_that_is_allowed() -> None:
    """`allow_pickle` brings objects of any class, and exceptions as ever; without it the error names it."""
    fits = [joblib.delayed(Model().fit)(weight) for weight in range(4)]
    assert [model.weight for model in parallel(allow_pickle=True)(fits)] == [0, 1, 2, 3]
    with joblib.parallel_config(backend="cloister", n_jobs=2, allow_pickle=True):
        assert [model.weight for model in joblib.Parallel()(fits)] == [0, 1, 2, 3]
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(divmod)(1, number) for number in (1, 0, 1))
    with pytest.raises(MarshalError) as refused:
        parallel()(fits)
    assert any("allow_pickle=True" in note for note in refused.value.__notes__)


def test_numbers_of_jobs_are_those_of_joblib() -> None:
    """-1 is all CPUs, 0 means nothing, 1 needs no domain."""
    from cloister.integrations.joblib import CloisterBackend

    backend = CloisterBackend()
    assert backend.effective_n_jobs(-1) == joblib.cpu_count()
    assert backend.effective_n_jobs(3) == 3
    assert backend.effective_n_jobs(None) == 1
    with pytest.raises(ValueError, match="no meaning"):
        backend.effective_n_jobs(0)
    assert joblib.Parallel(n_jobs=1, backend="cloister")([joblib.delayed(os.getpid)()]) == [os.getpid()]
