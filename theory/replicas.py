"""Replicas of one simulation over threads: progress on stderr, Ctrl-C keeps what is finished, threads change no number."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from threading import Event, Lock
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from theory.errors import require

T = TypeVar("T")
OnBlock = Callable[[int], bool]


def run_replicas(
    work: Callable[[int, OnBlock], T | None],
    replicas: Sequence[int],
    samples: int,
    label: str,
    threads: int | None = None,
    quiet: bool = True,
) -> tuple[dict[int, T], float]:
    """``work(replica, on_block)`` for each replica of ``samples`` samples: results by replica, in order, and the seconds.

    ``work`` tells ``on_block`` the samples it has done and returns None when the answer is False. Progress goes to stderr
    unless ``quiet`` or not a terminal. Raises KeyboardInterrupt if nothing had finished.
    """
    require(threads is None or 1 <= threads <= 1024, "threads", threads, "1 … 1024")
    stop, counted, begin = Event(), Lock(), perf_counter()
    done: dict[int, T] = {}
    bar = tqdm(
        total=len(replicas) * samples, unit="sample", unit_scale=True, disable=True if quiet else None, desc=label
    )

    def on_block(n: int) -> bool:
        with counted:
            bar.update(n)
        return not stop.is_set()

    def begin_one(replica: int) -> T | None:
        return None if stop.is_set() else work(replica, on_block)

    with bar, ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        pending: dict[Future[T | None], int] = {pool.submit(begin_one, i): i for i in replicas}
        try:
            for future in as_completed(pending):
                future.result()
        except BaseException as reason:
            stop.set()
            pool.shutdown(cancel_futures=True)
            if not isinstance(reason, KeyboardInterrupt):
                raise
    for future, i in pending.items():
        result = None if future.cancelled() else future.result()
        if result is not None:
            done[i] = result
    if not done:
        raise KeyboardInterrupt
    return {i: done[i] for i in sorted(done)}, perf_counter() - begin


def replica_numbers(runs: int | Sequence[int]) -> NDArray[np.int64]:
    """0 … runs-1, or the numbers listed. Raises InputError."""
    allowed = "1 … 10^7, or that many different replica numbers >= 0"
    if isinstance(runs, int | np.integer):
        require(1 <= runs <= 10**7, "runs", runs, allowed)
        return np.arange(runs)
    listed = np.asarray(runs, dtype=np.int64)
    ok = 1 <= len(listed) <= 10**7 and len(np.unique(listed)) == len(listed) and listed.min() >= 0
    require(bool(ok), "runs", runs, allowed)
    return listed


def spike_mask(spikes: tuple[str, ...], chosen: Sequence[str]) -> NDArray[np.bool_]:
    """Which of the spikes are among those chosen. Raises InputError for a name that is not a spike."""
    unknown = [s for s in chosen if s not in spikes]
    require(not unknown, "stop_spikes", ", ".join(unknown), ", ".join(spikes))
    return np.array([s in chosen for s in spikes])
