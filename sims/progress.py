"""Progress of a sweep on stderr: a bar on a terminal, a line a minute elsewhere, nothing if nobody asked."""

import sys
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from theory.store import FINISHED

MINUTE = 60.0
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} runs, {rate_fmt}{postfix}"


class Progress:
    """Runs done of ``runs``; the time left goes by their predicted ``cost`` in seconds, of which few runs may hold most."""

    def __init__(self, runs: int, cost: float, *, quiet: bool) -> None:
        self.runs, self.cost, self._quiet = runs, cost, quiet
        self._start = self._said = perf_counter()
        self._done, self._spent = 0, 0.0
        self._bar: Any = None
        if not quiet and runs and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=runs, unit="run", bar_format=BAR, dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, runs: int, cost: float, entered: Mapping[str, int], censored: int) -> None:
        """So many more runs have been entered; ``entered`` by status and ``censored`` since the start."""
        self._done, self._spent = self._done + runs, self._spent + cost
        if self._quiet:
            return
        now = perf_counter()
        if self._bar is not None:
            self._bar.set_postfix_str(self._state(now, entered, censored), refresh=False)
            self._bar.update(runs)
        elif now - self._said >= MINUTE:
            self._said = now
            rate = self._done / (now - self._start)
            sys.stderr.write(f"{self._done}/{self.runs} runs, {rate:.3g}/s, {self._state(now, entered, censored)}\n")
            sys.stderr.flush()

    def _state(self, now: float, entered: Mapping[str, int], censored: int) -> str:
        left = (self.cost - self._spent) * (now - self._start) / self._spent if self._spent else float("inf")
        unfinished = sum(entered.values()) - entered[FINISHED]
        share = censored / max(entered[FINISHED], 1)
        return f"{duration(left)} left, {unfinished} failed, {share:.0%} censored"


def duration(seconds: float) -> str:
    """In hours, minutes and seconds, or in days: what a reader plans by."""
    if not seconds < 1e9:
        return "?"
    whole = max(round(seconds), 0)
    days, clock = divmod(whole, 86400)
    text = f"{clock // 3600}:{clock // 60 % 60:02d}:{clock % 60:02d}"
    return f"{days} d {text}" if days else text


def rough(seconds: float) -> str:
    """Three digits, in the unit that a reader plans by."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
