"""Where a number comes from: the canonical form and hash of its configuration, the environment that computed it.

The hash is the identity of a point of a sweep; with the number of a replica it is the seed of a run, and nothing else is:
replica i of point h draws from SeedSequence(h, spawn_key=(i,)), whatever machine, worker or batch runs it.
"""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HASH_DIGITS = 15  # 60 bits: a positive integer of SQLite
PACKAGES = ("downstairs", "numpy", "scipy", "sympy", "numba")


def canonical(config: Mapping[str, Any]) -> str:
    """The JSON of plain values with sorted keys and floats in shortest round-trip form. Raises ValueError for nan and inf."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(text: str) -> str:
    """First 15 hexadecimal digits of the SHA-256 of a canonical configuration."""
    return sha256(text.encode()).hexdigest()[:HASH_DIGITS]


def seed_of(point: str) -> int:
    """The seed that a point's hash stands for; ``theory.results.replica_seed`` makes its children."""
    return int(point, 16)


@lru_cache(maxsize=1)
def environment() -> str:
    """Canonical JSON of versions, commit, platform and host of this process."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return canonical({
        **versions, "python": platform.python_version(), "platform": platform.platform(), "commit": commit(),
        "host": platform.node(), "cores": len(os.sched_getaffinity(0)),
    })  # fmt: skip


def commit() -> str:
    """The commit of the source tree this package runs from, with + if files differ from it; empty outside a repository."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout

    try:
        head = git("rev-parse", "HEAD").strip()
        return head + ("+" if git("status", "--porcelain", "--untracked-files=no").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@dataclass(frozen=True)
class Origin:
    """What stands in a figure's file: the command that made it, and the hash of the options or of the store it shows."""

    command: str
    hash: str


def command_line(program: str, arguments: Sequence[str] | None) -> str:
    """The command as one would type it."""
    return shlex.join(["python", "-m", program, *(sys.argv[1:] if arguments is None else arguments)])
