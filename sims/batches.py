"""How the missing runs of a sweep are put into batches of a few seconds."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from theory.store import FINISHED, Point, Run

MOST_RUNS = 1000  # of a batch: what a worker that dies can lose, and what one transaction holds
UNKNOWN = 10.0  # until a view is measured, its runs are taken to be so many times slower than predicted
MEMORY = 0.9  # weight of what was measured before against the newest batch


class Unit(NamedTuple):
    """Replicas of one point, which is known by its canonical configuration."""

    config: str
    replicas: tuple[int, ...]


class Share(NamedTuple):
    """A unit, with its point's hash, view and predicted seconds of a run."""

    unit: Unit
    point: str
    view: str
    cost: float

    def part(self, low: int, high: int) -> "Share":
        """Only some of its replicas."""
        return self._replace(unit=Unit(self.unit.config, self.unit.replicas[low:high]))


@dataclass(frozen=True)
class Batch:
    """What one worker does in one go; ``deaths``: how often its worker died over it while it ran alone."""

    shares: tuple[Share, ...]
    deaths: int = 0

    def __len__(self) -> int:
        """Runs."""
        return sum(len(share.unit.replicas) for share in self.shares)

    @property
    def units(self) -> list[Unit]:
        """What a worker needs to know."""
        return [share.unit for share in self.shares]

    @property
    def asked(self) -> Counter[tuple[str, int]]:
        """Each of its replicas, once."""
        return Counter((share.point, replica) for share in self.shares for replica in share.unit.replicas)

    @property
    def cost(self) -> float:
        """Predicted seconds."""
        return sum(share.cost * len(share.unit.replicas) for share in self.shares)

    def halves(self) -> "tuple[Batch, Batch]":
        """The same runs in two batches; of two runs or more neither is empty."""
        first: list[Share] = []
        second: list[Share] = []
        room = len(self) // 2
        for share in self.shares:
            n = len(share.unit.replicas)
            cut = min(room, n)
            room -= cut
            first += [share.part(0, cut)] if cut else []
            second += [share.part(cut, n)] if cut < n else []
        return Batch(tuple(first)), Batch(tuple(second))


@dataclass
class Pace:
    """Seconds that runs took for each that was predicted, view by view."""

    taken: dict[str, float] = field(default_factory=dict)
    predicted: dict[str, float] = field(default_factory=dict)

    def seconds(self, view: str, cost: float) -> float:
        """How long a run of this predicted cost will take."""
        ratio = self.taken[view] / self.predicted[view] if self.predicted.get(view) else UNKNOWN
        return max(ratio * cost, 1e-9)

    def learn(self, batch: Batch, runs: Iterable[Run]) -> None:
        """Take a finished batch into account, the older the less."""
        shares = {share.point: share for share in batch.shares}
        for view in {share.view for share in batch.shares}:
            for sums in (self.taken, self.predicted):
                sums[view] = MEMORY * sums.get(view, 0.0)
        for run in runs:
            if run.status == FINISHED:
                share = shares[run.point]
                self.taken[share.view] += run.seconds
                self.predicted[share.view] += share.cost


def make_batches(
    missing: Iterable[tuple[Point, list[int]]], grain: Callable[[Point], int], seconds: float, pace: Pace
) -> Iterator[Batch]:
    """Batches of about so many seconds, ``grain`` replicas of a point or more side by side, made when they are asked for."""
    shares: list[Share] = []
    room, runs = seconds, 0
    for point, todo in missing:
        whole, begin = Share(Unit(point.config, tuple(todo)), point.hash, point.values.get("view", ""), point.cost), 0
        lanes = grain(point)
        while begin < len(todo):
            left, each = len(todo) - begin, pace.seconds(whole.view, point.cost)
            fit = min(int(room / each), MOST_RUNS - runs) // lanes * lanes
            if shares and fit < min(lanes, left):
                yield Batch(tuple(shares))
                shares, room, runs = [], seconds, 0
                continue
            n = min(max(fit, lanes), left)
            shares.append(whole.part(begin, begin + n))
            begin, room, runs = begin + n, room - n * each, runs + n
    if shares:
        yield Batch(tuple(shares))
