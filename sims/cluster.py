"""Where batches of a sweep are computed: local processes, Dask, an executor of the caller's, all as ``concurrent.futures``.

An engine is a set of *lanes*. A worker that dies takes with it what is in its lane and nothing else: each local process is a
lane of its own; a Dask cluster is one lane. This file alone knows Dask.
"""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.queues import SimpleQueue
from threading import RLock, Thread
from time import monotonic, sleep
from typing import Any, Protocol

from tqdm import tqdm

from theory.errors import InputError, require

QUEUED = 2  # batches in flight for each worker: one running, one at hand
STARTS = 5  # that may fail one after another
STALE = 5.0  # seconds for which the number of Dask's workers is taken as known
BORN = monotonic()  # of a worker: this module comes with its first batch
CONNECT = 10.0  # seconds within which a scheduler must answer


class Lane(Protocol):
    """What takes batches and may lose a worker."""

    @property
    def depth(self) -> int:
        """Batches at most in flight."""
        ...

    def submit(self, work: Callable[[Any], Any], units: Sequence[Any]) -> Future:
        """Start ``work(units)`` somewhere."""
        ...

    def deaths(self, error: BaseException) -> int | None:
        """How many workers died over a batch that ended with this error; None: it was the batch that raised it."""
        ...

    def restart(self) -> None:
        """After a death and with nothing in flight: be usable again. Raises InputError where that cannot be."""
        ...

    def stop(self) -> None:
        """End the workers at once, whatever they do."""
        ...


@dataclass(frozen=True)
class Engine:
    """Lanes and how many workers they have in all; a context manager that stops them."""

    workers: int
    lanes: Sequence[Lane]

    def stop(self) -> None:
        """End all workers at once."""
        for lane in self.lanes:
            lane.stop()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def local(workers: int | None = None) -> Engine:
    """Processes of this machine, as many as cores that this process may use."""
    n = len(os.sched_getaffinity(0)) if workers is None else workers
    require(n >= 1, "workers", n, "1 or more")
    return Engine(n, [ProcessLane() for _ in range(n)])


def given(executor: Executor, workers: int | None = None) -> Engine:
    """Any executor; who made it ends it. It is kept busy as one of so many workers (default: the cores of this machine)."""
    n = workers or os.cpu_count() or 1
    return Engine(n, [GivenLane(executor, QUEUED * n)])


def dask(address: str | None = None, workers: int | None = None) -> Engine:
    """The workers of a scheduler, however many there are at any time; without an address a cluster of local processes.

    Workers of one thread are best: ``dask worker ADDRESS --nworkers N --nthreads 1``.
    """
    advice = "pip install 'downstairs[cluster]'"
    require(find_spec("distributed") is not None, "executor", "dask", "local where Dask is not installed", advice)
    from distributed import Client, LocalCluster

    with deaf_to_interrupts():  # the client's thread starts the workers
        if address is None:
            n = len(os.sched_getaffinity(0)) if workers is None else workers
            require(n >= 1, "workers", n, "1 or more")
            cluster = LocalCluster(
                n_workers=n, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=logging.CRITICAL
            )  # fmt: skip
            return Engine(n, [DaskLane(Client(cluster), cluster)])
        try:
            client = Client(address, timeout=CONNECT)
        except (OSError, ValueError) as error:
            what = f"{address} ({type(error).__name__})"
            raise InputError("executor", what, "a Dask scheduler that answers", "dask scheduler starts one") from error
    lane = DaskLane(client, None)
    return Engine(lane.depth // QUEUED, [lane])


class ProcessLane:
    """A process of its own, started by the first batch."""

    depth = QUEUED

    def __init__(self) -> None:
        self._context = _Spawn()
        self._executor: ProcessPoolExecutor | None = None

    def submit(self, work: Callable[[Any], Any], units: Sequence[Any]) -> Future:
        """See ``Lane``."""
        if self._executor is None:
            self._executor = ProcessPoolExecutor(1, mp_context=self._context, initializer=become_worker)
        with deaf_to_interrupts():  # a process that starts here inherits it: Ctrl-C in a terminal reaches whole groups
            future = self._executor.submit(work, units)
        self._context.close_results()
        return future

    def deaths(self, error: BaseException) -> int | None:
        """See ``Lane``."""
        return 1 if isinstance(error, BrokenExecutor) else None

    def restart(self) -> None:
        """See ``Lane``: a process that cannot even start is no fault of a batch."""
        for _ in range(STARTS):
            self.stop()
            try:
                self.submit(_nothing, ()).result()
            except BrokenExecutor:
                continue
            return
        advice = "a script that sweeps needs if __name__ == '__main__': around it"
        raise InputError("workers", "processes that die as they start", "ones that start", advice)

    def stop(self) -> None:
        """See ``Lane``."""
        for process in self._context.started:
            process.kill()
        self._context.started.clear()
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None


class _Spawn(SpawnContext):
    """Fresh interpreters, one at a time, and remembered: an executor does not say which process it started.

    The writing end of the results is left to the worker alone: if it dies within a long result, the rest is not waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []
        self._results: SimpleQueue | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        process = SpawnProcess(*args, **kwargs)
        self.started.append(process)
        return process

    def SimpleQueue(self) -> SimpleQueue:  # noqa: N802
        self._results = super().SimpleQueue()
        return self._results

    def close_results(self) -> None:
        if self._results is not None:
            self._results._writer.close()  # type: ignore[attr-defined]
            self._results = None


class GivenLane:
    """An executor of someone else's."""

    def __init__(self, executor: Executor, depth: int) -> None:
        self._executor, self.depth = executor, depth

    def submit(self, work: Callable[[Any], Any], units: Sequence[Any]) -> Future:
        """See ``Lane``."""
        return self._executor.submit(work, units)

    def deaths(self, error: BaseException) -> int | None:
        """See ``Lane``."""
        return 1 if isinstance(error, (BrokenExecutor, CancelledError)) else None

    def restart(self) -> None:
        """See ``Lane``: only who made it could."""
        what, advice = f"a {type(self._executor).__name__} that lost a worker", "give a new one: finished runs are kept"
        raise InputError("executor", what, "one that works (executor='local' isolates what kills workers)", advice)

    def stop(self) -> None:
        """See ``Lane``: left to who made it."""


class DaskLane:
    """All workers of a scheduler. A batch whose worker dies runs again, until ``allowed-failures`` make it a KilledWorker."""

    def __init__(self, client: Any, cluster: Any) -> None:
        self._client, self._cluster = client, cluster
        self._depth, self._known = QUEUED, -STALE

    @property
    def depth(self) -> int:
        """See ``Lane``: workers come and go."""
        if monotonic() - self._known > STALE and self._client.status == "running":
            with suppress(OSError):  # a scheduler that is going away: what is in flight will tell
                self._depth, self._known = QUEUED * max(1, sum(self._client.nthreads().values())), monotonic()
        return self._depth

    def submit(self, work: Callable[[Any], Any], units: Sequence[Any]) -> Future:
        """See ``Lane``: what ``Client.get_executor`` does, but for its futures that nothing wakes when a result is lost."""
        future: Future = Future()
        future.set_running_or_notify_cancel()
        task = self._client.submit(on_dask, work, units, pure=False)
        self._client.loop.add_callback(self._deliver, task, future)
        return future

    async def _deliver(self, task: Any, future: Future) -> None:
        try:
            result = await self._client.gather(task, asynchronous=True)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def deaths(self, error: BaseException) -> int | None:
        """See ``Lane``: a connection that was lost cancels what is in flight, and kills nobody."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        if isinstance(error, KilledWorker):
            return error.allowed_failures + 1
        return 0 if isinstance(error, (CancelledError, CommClosedError)) else None

    def restart(self) -> None:
        """See ``Lane``: workers are restarted by who started them; a client that found its scheduler again works on."""
        gone = self._client.status not in ("running", "connecting")
        require(
            not gone, "executor", "a Dask scheduler that went away", "one that answers", "start it again, then resume"
        )

    def stop(self) -> None:
        """See ``Lane``: workers of a scheduler that is not ours finish the batch they run; nobody waits for it."""
        if self._cluster is not None:
            for nanny in self._cluster.workers.values():
                nanny.close_gracefully()  # it makes no new worker
                with suppress(ProcessLookupError, TypeError):  # it has none just now
                    os.kill(nanny.pid, signal.SIGKILL)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def on_dask(work: Callable[[Any], Any], units: Sequence[Any]) -> Any:
    """No batch in a worker's first second: who dies then has not started, in the eyes of its nanny, and is not replaced."""
    sleep(max(0.0, BORN + 1 - monotonic()))
    return work(units)


def become_worker() -> None:
    """What a worker process does first: one thread for BLAS, and an end of its own when the driver dies."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    tqdm.set_lock(RLock())  # its default is a semaphore of the system, which a killed worker would leave behind
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Threads and processes that start meanwhile never see Ctrl-C, the driver's business; this thread sees it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _nothing(_: object) -> None:
    pass
