"""A store's file: opened for one writer or any number of readers, locked, laid out, and its errors put into words.

WAL and one transaction a batch on local disks; on network file systems, where WAL does not work, a rollback journal. What a
commit acknowledged survives the death of any process; a power failure may cost the last seconds (synchronous = NORMAL),
never the file.
"""

import errno
import fcntl
import os
import platform
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from theory.errors import InputError, require

APPLICATION, SCHEMA, PAGE_BYTES = 0x64737472, 1, 16384  # "dstr"
TABLES = (
    "points (id INTEGER PRIMARY KEY, program TEXT NOT NULL, config TEXT NOT NULL, runs INTEGER NOT NULL, cost REAL NOT NULL)",
    "runs (point INTEGER NOT NULL, replica INTEGER NOT NULL, status TEXT NOT NULL, result TEXT NOT NULL, "
    "censored INTEGER NOT NULL, samples REAL NOT NULL, seconds REAL NOT NULL, error TEXT, environment INTEGER NOT NULL, "
    "crc INTEGER NOT NULL, PRIMARY KEY (point, replica)) WITHOUT ROWID",
    "trajectories (point INTEGER NOT NULL, replica INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL, "
    "PRIMARY KEY (point, replica))",
    "environments (id INTEGER PRIMARY KEY, description TEXT NOT NULL)",
    "commands (time TEXT NOT NULL, command TEXT NOT NULL, environment INTEGER NOT NULL)",
)
NETWORK_FILESYSTEMS = {
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "cifs", "smb3", "smbfs", "afs", "9p", "fuse.sshfs",
    "glusterfs", "fuse.glusterfs", "pvfs2", "orangefs", "panfs", "wekafs",
}  # fmt: skip
PATIENCE = 60  # seconds that one process waits for another
_held: set[int] = set()  # locks of this process


class StoreFullError(OSError):
    """The disk is full or fails: this batch is not stored, all before it is."""


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Tell damage (InputError) from a full disk, a busy file and one that may not be opened (OSError): one line each."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise  # a mistake of ours
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        place = str(path)
        match code & 0xFF:
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                text = f"{error}: all that was stored before is there; make room, then resume"
                raise StoreFullError(errno.ENOSPC, text, place) from error
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
                raise OSError(errno.EBUSY, f"{error}: another process uses it; try again later", place) from error
            case sqlite3.SQLITE_READONLY if code == sqlite3.SQLITE_READONLY_ROLLBACK:
                text = "its writer was killed in the middle of a change, and resume takes that back"
                raise OSError(errno.EROFS, text, place) from error
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
                raise OSError(errno.EACCES, f"{error}: copy it to a folder you may write to", place) from error
            case _:
                raise damaged(path, error) from error


def damaged(path: Path, reason: object) -> InputError:
    """What a user is told of a store that cannot be read."""
    return InputError(
        "store", f"{path} ({reason})", "an undamaged store", "python -m sims.sweep salvage keeps what is intact"
    )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, also where COMMIT itself fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite takes some back by itself
            connection.execute("ROLLBACK")
        raise


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection to a store that is there or is made. Raises InputError, OSError."""
    with in_words(path):
        connection = _connect(path, "mode=rwc")
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, beside a writer. Raises InputError, OSError."""
    require(path.is_file(), "store", path, "a store that is there", "python -m sims.sweep run makes one")
    with in_words(path):
        try:
            return _checked(_connect(path, "mode=ro"), path)
        except sqlite3.OperationalError as error:
            # Left in WAL mode by a reader that outlived the writer, then put where no index of the log can be made.
            log = path.with_name(path.name + "-wal")
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN or (log.exists() and log.stat().st_size):
                raise
            return _checked(_connect(path, "mode=ro&immutable=1"), path)


def read_uri(path: Path) -> str:
    """The name under which a writer attaches another store without touching it."""
    return f"{path.resolve().as_uri()}?mode=ro"


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is not a store, or one of another schema. Raises InputError, sqlite3.DatabaseError."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    require(application == APPLICATION, "store", path, "a store of this program", "this SQLite file is something else")
    require(
        schema == SCHEMA, "store", f"{path} of schema {schema}", f"schema {SCHEMA}", "use the version that wrote it"
    )


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, isolation_level=None, timeout=PATIENCE)


def _checked(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    try:
        check_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA page_count").fetchone() != (0,):
        check_schema(connection, path)
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise damaged(path, verdict.splitlines()[-1])
    else:
        _lay_out(connection)
    wanted = "DELETE" if on_network(path) else "WAL"
    (mode,) = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
    connection.execute("PRAGMA cache_size = -65536")


def _lay_out(connection: sqlite3.Connection) -> None:
    """Before there is a log: from the first commit on, page 1 of the file says what it is and where its tables begin."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = NONE")
    with transaction(connection):
        for table in TABLES:
            connection.execute(f"CREATE TABLE {table}")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def on_network(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether a path lies on a network file system: of the mount points that hold it the longest, of equal ones the last."""
    try:
        lines = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    except OSError:
        return False
    place, best, kind = path.resolve(), 0, ""
    for _, escaped, filesystem, *_ in (line for line in lines if len(line) > 2):
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped)
        if place.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), filesystem
    return kind in NETWORK_FILESYSTEMS


def take_lock(path: Path) -> int:
    """A file that the kernel unlocks when its holder ends, however it ends. Raises InputError naming the holder."""
    lock = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(lock)
        os.close(lock)
        raise InputError("store", path, "one writer at a time", f"held by {holder}: wait for it, or stop it") from None
    except OSError as error:
        os.close(lock)
        advice = "choose a folder on another disk"
        raise InputError("store", f"{path} ({error.strerror})", "a file system with locks", advice) from error
    now = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(lock, 0)
    with suppress(OSError):  # on a full disk the lock holds as well without a name
        os.pwrite(lock, f"process {os.getpid()} on {platform.node()} since {now}\n".encode(), 0)
    _held.add(lock)
    return lock


def release_lock(lock: int) -> None:
    """Let the next one in; in a forked child there is nothing left to release."""
    if lock in _held:
        _held.remove(lock)
        os.ftruncate(lock, 0)
        os.close(lock)


def holder_of(path: Path) -> str | None:
    """Who writes a store at this moment, in words; None: nobody."""
    try:
        lock = os.open(_lock_of(path), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(lock)
    finally:
        os.close(lock)
    return None


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _holder(lock: int) -> str:
    return os.pread(lock, 500, 0).decode(errors="replace").strip() or "an unknown process"


def _forget_locks() -> None:
    """A forked worker shares the file description: were it to outlive a killed driver, it would go on holding the store."""
    for lock in _held:
        os.close(lock)
    _held.clear()


os.register_at_fork(after_in_child=_forget_locks)
