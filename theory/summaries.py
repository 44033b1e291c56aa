"""How a result introduces itself: one small table, as text for a terminal and as HTML for a notebook.

The HTML carries no style of its own, so that it is readable in light and dark notebooks alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ABSENT = "-"


@dataclass(frozen=True)
class Summary:
    """A title, a table (``rows`` of as many cells as ``head``), and lines behind it."""

    title: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned columns, indented under the title."""
        table = [self.head, *self.rows] if self.rows else []
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        return "\n".join([self.title, *(f"  {line}".rstrip() for line in (*lines, *self.notes))])

    def html(self) -> str:
        """The same as HTML; every text is escaped."""

        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        table = f"<table><thead>{row(self.head, 'th')}</thead><tbody>{body}</tbody></table>" if self.rows else ""
        return (
            f"<div><p>{escape(self.title)}</p>{table}" + "".join(f"<p>{escape(n)}</p>" for n in self.notes) + "</div>"
        )


def counted(n: int, noun: str) -> str:
    """``1 run``, ``40 runs``."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def samples_text(samples: float, budget: float = np.inf) -> str:
    """Samples to four digits; inf is ``beyond`` a finite budget, or ``never``."""
    if samples == np.inf:
        return "never" if budget == np.inf else "beyond"
    return f"{samples:.4g}"


def clock_text(times: Array) -> str:
    """How many times there are and what they span, in samples."""
    if not len(times):
        return "no times"
    return f"{counted(len(times), 'time')}, {times[0]:.4g} … {times[-1]:.4g} samples"


def spread_text(values: Array) -> str:
    """Median and, of several runs, ``(10 % … 90 %)``; runs without a number (nan) are left out."""
    seen = values[~np.isnan(values)]
    if not len(seen):
        return ABSENT
    low, middle, high = np.quantile(seen, (0.1, 0.5, 0.9))
    return f"{middle:.3f}" + (f" ({low:.3f} … {high:.3f})" if len(values) > 1 else "")


def last_recorded(paths: Array) -> Array:
    """The last entry of each run (n_runs, n_times) that is not nan; nan where there is none."""
    seen = ~np.isnan(paths)
    if not paths.shape[1]:
        return np.full(len(paths), np.nan)
    last = paths.shape[1] - 1 - seen[:, ::-1].argmax(axis=1)
    return np.asarray(paths[np.arange(len(paths)), last])
