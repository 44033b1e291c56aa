"""The driver of a sweep: what is missing in a store goes out in batches, what comes back is kept at once, whoever dies.

The driver is the store's one writer; a batch is one transaction. Batches are made when a worker can take one, so that memory
does not grow with the sweep. Which replicas share a batch changes no result: seeds come from point and replica alone.

A worker that dies takes its lane's batches with it. Each of these runs again alone; one that kills again is halved, until a
single replica that does it ``TRIES`` times is entered as killed.
"""

import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from time import perf_counter
from typing import NamedTuple

from sims.batches import Batch, Pace, Unit, make_batches
from sims.cluster import Engine, Lane
from sims.progress import Progress
from theory.errors import InputError
from theory.store import DIVERGED, FAILED, FINISHED, KILLED, Point, Run, Store

TRIES = 3

Work = Callable[[list[Unit]], tuple[str, list[Run]]]


@dataclass(frozen=True)
class Outcome:
    """Runs that were entered, by status; ``censored`` of the finished; wall clock; whether a signal ended it."""

    finished: int
    diverged: int
    failed: int
    killed: int
    censored: int
    seconds: float
    interrupted: bool


def drive(
    store: Store,
    program: str,
    work: Work,
    engine: Engine,
    *,
    shard: tuple[int, int] = (0, 1),
    again: bool = False,
    grain: Callable[[Point], int] = lambda _: 1,
    seconds: float = 3.0,
    quiet: bool = True,
) -> Outcome:
    """Run what is missing of a program's points, and stop the engine.

    SIGINT and SIGTERM end it at once: the workers are killed, what had finished is in the store, ``interrupted`` is True. A
    second signal changes nothing. Raises what the store raises (a full disk, say) after the workers have been stopped, and
    InputError where the engine cannot go on.

    Parameters
    ----------
    work
        Function of a module, called in the workers: the environment and one row for each replica of the units.
    shard
        (i, N): only this job's share of the replicas.
    again
        Whether runs that failed count as missing.
    grain
        Replicas of a point that are worth running together.
    seconds
        Computing time that a batch aims at, by the predicted costs and what they turned out to be.
    """
    start, pace = perf_counter(), Pace()
    back: SimpleQueue[Future | None] = SimpleQueue()
    with (
        _signals(lambda: back.put(None)),
        engine,
        Progress(*store.left(program, shard, again), quiet=quiet) as progress,
    ):
        batches = make_batches(store.missing(program, shard, again), grain, seconds, pace)
        driver = _Driver(store, work, batches, pace, progress, [_Slot(lane) for lane in engine.lanes], back)
        try:
            interrupted = driver.run()
        finally:
            driver.drop()
    n = driver.entered
    taken = perf_counter() - start
    return Outcome(n[FINISHED], n[DIVERGED], n[FAILED], n[KILLED], driver.censored, taken, interrupted)


@dataclass
class _Slot:
    """A lane: batches in flight, one that is there alone; a worker lost just now; suspects to be seen to before others."""

    lane: Lane
    flying: int = 0
    alone: bool = False
    broken: bool = False
    wary: bool = False


class _Flight(NamedTuple):
    slot: _Slot
    batch: Batch


@dataclass
class _Driver:
    """The loop and its state: batches in flight, and suspects, which run alone because they may kill their worker."""

    store: Store
    work: Work
    batches: Iterator[Batch]
    pace: Pace
    progress: Progress
    slots: list[_Slot]
    back: "SimpleQueue[Future | None]"  # what is done; None: stop
    flights: dict[Future, _Flight] = field(default_factory=dict)
    suspects: deque[Batch] = field(default_factory=deque)
    entered: Counter[str] = field(default_factory=Counter)
    censored: int = 0

    def run(self) -> bool:
        """Until nothing is left, or a signal: then True."""
        self._fill()
        while self.flights:
            future = self.back.get()
            if future is None:
                self._keep_what_is_back()
                return True
            self._settle(future)
            del future  # or its result is held, by a Dask worker too, until the next one comes
            self._fill()
        return False

    def _keep_what_is_back(self) -> None:
        while not self.back.empty():
            future = self.back.get()
            if future is not None:
                self._settle(future)

    def drop(self) -> None:
        """Nobody waits for what is still in flight."""
        for future in self.flights:
            future.cancel()

    def _fill(self) -> None:
        for slot in self.slots:
            while self._send(slot):
                pass

    def _send(self, slot: _Slot) -> bool:
        """One more batch down a lane; False: it takes none at this moment."""
        if slot.alone or (slot.broken and slot.flying):
            return False
        slot.wary = slot.wary and bool(self.suspects)
        batch = next(self.batches, None) if not slot.wary and slot.flying < slot.lane.depth else None
        if batch is None:
            if slot.flying or not self.suspects:
                return False
            batch, slot.alone = self.suspects.popleft(), True
        if slot.broken:
            slot.lane.restart()
            slot.broken = False
        try:
            future = slot.lane.submit(self.work, batch.units)
        except Exception as error:
            if slot.lane.deaths(error) is None:
                raise
            self.suspects.append(batch)  # the worker had died before it got anything
            slot.broken, slot.wary, slot.alone = True, True, False
            return True
        slot.flying += 1
        self.flights[future] = _Flight(slot, batch)
        future.add_done_callback(self.back.put)
        return True

    def _settle(self, future: Future) -> None:
        slot, batch = self.flights.pop(future)
        alone, slot.alone = slot.alone, False
        slot.flying -= 1
        error = CancelledError("cancelled") if future.cancelled() else future.exception()
        if error is None:
            environment, runs = future.result()
            if batch.asked == Counter((run.point, run.replica) for run in runs):
                self.pace.learn(batch, runs)
                self._keep(batch, runs, environment)
                return
            error = TypeError(f"{len(runs)} runs came back, not the {len(batch)} that were asked for")
        slot.wary = True
        deaths = slot.lane.deaths(error)
        if isinstance(error, ImportError):
            raise InputError(
                "workers", f"{error}", "workers that have this program", "install it where they run"
            ) from error
        if deaths is None:
            self._divide(batch, FAILED, f"{type(error).__name__}: {error}")
            return
        slot.broken = True
        if not alone:
            self.suspects.append(batch)
        elif deaths and (len(batch) > 1 or batch.deaths + deaths >= TRIES):
            self._divide(
                batch, KILLED, f"its worker died {batch.deaths + deaths} times in a row ({type(error).__name__})"
            )
        else:
            self.suspects.appendleft(replace(batch, deaths=batch.deaths + deaths))

    def _divide(self, batch: Batch, status: str, why: str) -> None:
        """A batch does not run: its halves might; a single replica is entered as what it is."""
        if len(batch) > 1:
            self.suspects.extendleft(batch.halves())
        else:
            ((point, replica),) = batch.asked
            self._keep(batch, [Run(point, replica, status, "[]", True, 0.0, 0.0, why)], "{}")

    def _keep(self, batch: Batch, runs: list[Run], environment: str) -> None:
        self.store.add(runs, environment)
        self.entered.update(run.status for run in runs)
        self.censored += sum(run.censored for run in runs if run.status == FINISHED)
        self.progress.advance(len(runs), batch.cost, self.entered, self.censored)


@contextmanager
def _signals(tell: Callable[[], None]) -> Iterator[None]:
    """Signals that end a program tell the driver instead: none can cut a transaction, or the stop, in two."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = [k for k in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(k) not in (signal.SIG_IGN, None)]
    before = {k: signal.signal(k, lambda *_: tell()) for k in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
