"""Results in files: one zip of header.json and an .npy for every array, which ``numpy.load`` reads too. Nothing is pickled.

The header says what the file is, in which version of this form, by which command, environment and model it came to be. Floats
are written in shortest round-trip form and arrays as they are, so that what is loaded equals what was saved bit for bit.

A result and the values within it (a model, a law) are frozen dataclasses of ``theory`` and ``solvers``: each is written as
its name and its fields, and made again by its constructor with all its checks. Nothing else is made.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import IO, Any

import numpy as np

from theory.errors import InputError, require
from theory.provenance import canonical, digest, environment
from theory.results import Result

FORMAT, SCHEMA = "downstairs result", 1
HEADER = "header.json"
PACKAGES = ("theory", "solvers")
EPOCH = (1980, 1, 1, 0, 0, 0)  # of the zip: equal results make equal files
NUMBERS = "fiub"  # kinds of NumPy arrays that a result has
DAMAGES = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, AttributeError, EOFError, NotImplementedError,
           RuntimeError, ImportError, OverflowError, MemoryError)  # fmt: skip


def save(result: Result, path: Path, model: Any = None, command: str | None = None) -> None:
    """Write a result whole or not at all, with its provenance.

    Parameters: ``model`` a Model or NetworkModel, whose description and hash are kept, by default that which the result has;
    ``command`` what made the result. A result that was loaded keeps what its file said of both and of the environment. Raises
    InputError, also for a model with a task or an activation of your own, which is code.
    """
    require(path.parent.is_dir(), "path", path, "a file in an existing directory", f"create {path.parent} first")
    require(not path.is_dir(), "path", path, "a file", "choose another place")
    arrays: dict[str, np.ndarray] = {}
    header = {
        "format": FORMAT, "schema": SCHEMA, "result": _encode(result, "", arrays),
        "provenance": _provenance(result, model, command),
    }  # fmt: skip
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            _write(file, header, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write(file: IO[bytes], header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(HEADER, EPOCH), json.dumps(header, indent=1, allow_nan=False))
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", EPOCH), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load(path: Path | str) -> Any:
    """The result in a file that ``save`` wrote, its ``provenance`` with it. Raises InputError for any other file."""
    path = Path(path)
    require(path.is_file(), "path", path, "an existing file")
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(HEADER))
            require(
                isinstance(header, dict) and header.get("format") == FORMAT, "path", path, "a file that save() wrote"
            )
            schema = header.get("schema")
            advice = "a newer version of downstairs wrote this file: pip install -U downstairs"
            newer = advice if isinstance(schema, int) and schema > SCHEMA else ""
            require(schema == SCHEMA and type(schema) is int, "schema", schema, str(SCHEMA), newer)
            require(isinstance(header["provenance"], dict), "path", path, "a file that save() wrote")
            result = _decode(header["result"], archive, header["provenance"])
            require(isinstance(result, Result), "path", path, "a file that save() wrote")
            return result
    except InputError:
        raise
    except DAMAGES:
        raise InputError("path", path, "a file that save() wrote", "this one is something else, or damaged") from None


def _provenance(result: Result, model: Any, command: str | None) -> dict[str, Any]:
    """What the result brought along, under what is said now."""
    known = dict(result.provenance or {"command": "python", "environment": json.loads(environment())})
    if command is not None:
        known["command"] = command
    model = getattr(result, "model", None) if model is None else model
    if model is not None:
        from theory.archive import fingerprint

        known |= {"model": model.describe(), "hash": digest(canonical({"model": fingerprint(model)}))}
    return known


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON: arrays by name, sequences as lists, dataclasses with their kind, floats that JSON lacks as text."""
    from theory.activations import Activation, exact_text

    match value:
        case np.ndarray():
            require(value.dtype.kind in NUMBERS, name, value.dtype, "arrays of numbers")
            arrays[name] = value
            return {"array": name}
        case Activation():
            return {"activation": exact_text(value)}
        case _ if is_dataclass(value):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            require(_is_ours(kind, type(value)), name or "result", kind, "values of the package", "yours are code")
            parts = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "provenance"}
            prefix = f"{name}." if name else ""
            return {"kind": kind} | {k: _encode(v, prefix + k, arrays) for k, v in parts.items()}
        case dict():
            return {"items": [[_encode(k, name, arrays), _encode(v, f"{name}.{k}", arrays)] for k, v in value.items()]}
        case tuple() | list():
            return [_encode(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]
        case np.generic():
            return _encode(value.item(), name, arrays)
        case float() if not isfinite(value):
            return {"float": str(value)}
    return value


def _decode(value: Any, archive: zipfile.ZipFile, provenance: Mapping[str, Any]) -> Any:
    match value:
        case {"kind": kind, **parts}:
            make = _class_of(kind)
            known = {str(k): _decode(v, archive, provenance) for k, v in parts.items()}
            return make(**known, **({"provenance": provenance} if issubclass(make, Result) else {}))
        case {"array": name}:
            # Read as a whole first: only then the checksum has been compared.
            array = np.load(BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
            require(array.dtype.kind in NUMBERS, name, array.dtype, "arrays of numbers")
            return array
        case {"float": text}:
            return float(text)
        case {"activation": text}:
            from theory.activations import activation_from_text

            return activation_from_text(text)
        case {"items": pairs}:
            return {_decode(k, archive, provenance): _decode(v, archive, provenance) for k, v in pairs}
        case list():
            return tuple(_decode(v, archive, provenance) for v in value)
    return value


def _is_ours(kind: str, found: Any) -> bool:
    """Whether a class is a frozen value of the package; ``kind`` is its module and name."""
    frozen = is_dataclass(found) and getattr(found, "__dataclass_params__").frozen  # noqa: B009  (mypy knows no params)
    return frozen and kind.split(".")[0] in PACKAGES and kind.count(".") == 2


def _class_of(kind: str) -> Any:
    """The class of that name. Raises one of ``DAMAGES`` if it is not a frozen value of the package."""
    package, module, name = kind.split(".")
    if package not in PACKAGES or module.startswith("_"):
        raise ValueError(kind)
    found = getattr(import_module(f"{package}.{module}"), name)
    if not _is_ours(kind, found) or found.__module__ != f"{package}.{module}":
        raise ValueError(kind)
    return found
