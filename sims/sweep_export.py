"""A store as a pandas table or an xarray data set, and as a file: NetCDF, Parquet, CSV, written whole or not at all."""

import csv
import json
import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sims.sweep_table import (
    BOOL,
    ENVIRONMENT,
    FLOAT,
    INT,
    MINE,
    PROGRAM,
    TEXT,
    Column,
    Layout,
    chunks,
    layout_of,
    library,
    overlaps_of,
    times_of,
)
from theory.errors import require
from theory.store import Store
from theory.store_files import damaged
from theory.store_rows import hash_of, trajectory_crc

TEXTS = ("point", "error", "activation", "teacher", "latent", "init", "target", "status")
READ_CSV: dict[str, Any] = {"dtype": dict.fromkeys(TEXTS, str), "low_memory": False}
UNITS = {"escape": "samples", "samples_run": "samples", "seconds": "s", "time": "samples", "samples": "samples"}
RUN = "run"


def export(store: Store, path: Path) -> None:
    """Write the runs of a store in the format that the file name says. Raises InputError."""
    require(path.suffix in WRITERS, "export", path, "a file name ending in " + ", ".join(WRITERS))
    require(path.parent.is_dir(), "export", path, "a file in an existing directory", f"create {path.parent} first")
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        WRITERS[path.suffix](store, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def frame(store: Store) -> Any:
    """All runs as a DataFrame."""
    pandas = library("pandas")
    _, parts = _table(store)
    return pandas.concat([_frame(pandas, columns) for columns in parts], ignore_index=True)


def _table(store: Store) -> tuple[Layout, Iterator[dict[str, Column]]]:
    """Layout and columns by chunks. Raises InputError where there are no runs."""
    layout = layout_of(store)
    parts = chunks(store, layout)
    first = next(parts, None)
    advice = "python -m sims.sweep resume runs it"
    require(first is not None, "store", f"{store.path} without runs", "a store with some", advice)
    return layout, chain([first or {}], parts)


def _frame(pandas: Any, columns: dict[str, Column]) -> Any:
    return pandas.DataFrame({
        name: pandas.Series(values, dtype=str if kind == TEXT else kind) for name, (kind, values) in columns.items()
    })  # fmt: skip


def dataset(store: Store) -> Any:
    """All runs as a Dataset; what is the same for all of them has no dimension."""
    xarray = library("xarray")
    layout, parts = _table(store)
    pieces: dict[str, list[Any]] = {name: [] for name in layout.kinds}
    for part in parts:
        for name, (kind, values) in part.items():
            if kind == TEXT:
                values[[value is None for value in values]] = ""  # NetCDF has no missing text
            pieces[name].append(values)
    columns = {name: np.concatenate(pieces.pop(name)) for name in layout.kinds}
    escapes = [columns.pop(f"escape_{spike}") for spike in layout.spikes]
    data: dict[str, Any] = {"escape": ((RUN, "spike"), np.stack(escapes, axis=1))}
    coordinates: dict[str, Any] = {"spike": np.array(layout.spikes, dtype=object)}
    for name, values in columns.items():
        if name in ("point", "replica"):
            coordinates[name] = RUN, values
        elif name in layout.config or name in (*ENVIRONMENT, "versions"):
            same = bool((values == values[0]).all()) or bool(layout.kinds[name] == FLOAT and np.isnan(values).all())
            coordinates[name] = values[0] if same else (RUN, values)
        else:
            data[name] = RUN, values
    result = xarray.Dataset(data | _trajectories(store, layout.spikes), coordinates)
    for name in UNITS.keys() & result.variables.keys():
        result[name].attrs["units"] = UNITS[name]
    return result


def _trajectories(store: Store, spikes: tuple[str, ...]) -> dict[str, Any]:
    """Overlaps by run, record and spike and their times, nan where there are none; nothing if no run was recorded."""
    points = store.connection.execute(
        "SELECT id, config FROM points WHERE program = ? AND id IN (SELECT point FROM trajectories)", (PROGRAM,)
    )
    configs = {number: json.loads(config) for number, config in points}
    if not configs:
        return {}
    grids = {number: times_of(config) for number, config in configs.items()}
    columns = {number: [spikes.index(spike) for spike in config["spikes"]] for number, config in configs.items()}
    (n_runs,) = store.connection.execute(f"SELECT count(*) FROM runs WHERE {MINE}").fetchone()
    longest = max(map(len, grids.values()))
    times = np.full((n_runs, longest), np.nan)
    overlaps = np.full((n_runs, longest, len(spikes)), np.nan, dtype=np.float32)
    records = store.connection.execute(
        "SELECT point, replica, trajectories.crc, data FROM runs LEFT JOIN trajectories USING (point, replica) "
        f"WHERE {MINE} ORDER BY point, replica"
    )
    for run, (number, replica, crc, record) in enumerate(records):
        if record is not None:
            if crc != trajectory_crc(number, replica, record):
                raise damaged(store.path, f"run {hash_of(number)}:{replica} does not match its checksum")
            n_times = len(grids[number])
            times[run, :n_times] = grids[number]
            overlaps[run, :n_times][:, columns[number]] = overlaps_of(store.path, record, configs[number])
    same = len({grid.tobytes() for grid in grids.values()}) == 1
    time = ("record", next(iter(grids.values())).astype(float)) if same else ((RUN, "record"), times)
    return {"overlap": ((RUN, "record", "spike"), overlaps), "time": time}


def provenance(store: Store) -> dict[str, str]:
    """Where the numbers come from: the store and its checksum, the commands and environments (JSON) that made it."""
    commands = store.connection.execute("SELECT time, command FROM commands ORDER BY time").fetchall()
    environments = store.connection.execute("SELECT description FROM environments").fetchall()
    return {
        "store": str(store.path), "checksum": store.checksum(), "commands": json.dumps(commands),
        "environments": f"[{','.join(text for (text,) in environments)}]",
    }  # fmt: skip


def _write_netcdf(store: Store, path: Path) -> None:
    library("h5netcdf")
    result = dataset(store).assign_attrs(provenance(store))
    numbers = [name for name, variable in result.variables.items() if variable.ndim and variable.dtype != object]
    result.to_netcdf(path, engine="h5netcdf", encoding={name: {"zlib": True, "complevel": 1} for name in numbers})


def _write_parquet(store: Store, path: Path) -> None:
    arrow, parquet = library("pyarrow"), library("pyarrow.parquet")
    layout, parts = _table(store)
    kinds = {BOOL: arrow.bool_(), INT: arrow.int64(), FLOAT: arrow.float64(), TEXT: arrow.string()}
    fields = [(name, kinds[kind]) for name, kind in layout.kinds.items()]
    schema = arrow.schema(fields, {"PANDAS_ATTRS": json.dumps(provenance(store))})
    with parquet.ParquetWriter(path, schema) as writer:
        for part in parts:
            columns = [arrow.array(values, kinds[kind], from_pandas=False) for kind, values in part.values()]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _write_csv(store: Store, path: Path) -> None:
    layout, parts = _table(store)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(layout.kinds)
        for part in parts:
            writer.writerows(zip(*(values.tolist() for _, values in part.values()), strict=True))


WRITERS: dict[str, Callable[[Store, Path], None]] = {
    ".nc": _write_netcdf, ".parquet": _write_parquet, ".csv": _write_csv,
}  # fmt: skip
