"""A table of discrete variables as people keep it: CSV, names in the first line, whole numbers below."""

import csv
import re
from pathlib import Path

import numpy as np

from solvers.leaf_table import LeafTable, sampled
from theory.errors import require
from theory.numerals import whole_number

MOST_ROWS = 10**7


def read_csv(path: Path) -> LeafTable:
    """Samples, one a line. Raises InputError with the number of the line that is wrong."""
    require(path.is_file(), "--data", path, "a CSV file: names in the first line, one sample a line below")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])]
            require(len(names) > 0 and all(names), "--data", f"line 1 of {path}", "a name for each column")
            states: list[list[int]] = []
            header = not all(re.fullmatch(r"[\d.+-]+", name) for name in names) and all(map(str.isprintable, names))
            require(
                header, "--data", f"line 1 of {path}", "printable names of the columns, not numbers", "add a first line"
            )
            for row in filter(None, reader):
                require(
                    len(row) == len(names), "--data", f"line {reader.line_num} of {path}", f"{len(names)} whole numbers"
                )
                require(
                    len(states) < MOST_ROWS,
                    "--data",
                    f"line {reader.line_num} of {path}",
                    f"at most {MOST_ROWS} samples",
                )
                states.append(_states(row, reader.line_num, path))
    except (csv.Error, UnicodeDecodeError) as error:
        require(False, "--data", f"{path}: {error}", "a CSV file in UTF-8")
    require(len(states) > 0, "--data", path, "samples below the names")
    return sampled(names, np.array(states, dtype=np.int64))


def _states(row: list[str], line: int, path: Path) -> list[int]:
    try:
        states = [whole_number(word) for word in row]
    except (ValueError, OverflowError):
        states = [-1]
    require(min(states) >= 0 and max(states) < 2**31, "--data", f"line {line} of {path}", "whole numbers 0, 1, 2, …")
    return states
