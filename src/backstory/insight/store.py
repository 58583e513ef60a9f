"""The run store: one folder with ``run.db`` (SQLite in WAL mode) and ``snapshots/``.

Writing happens in a thread of its own that commits once a second, so that training never waits for
the disk and a killed process loses at most the last second. Any number of readers may look on.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from backstory.errors import RunError

__all__ = ["FORMAT", "Reader", "Writer", "database", "transaction"]

FORMAT = 3
APPLICATION_ID = 0x62737479  # "bsty"
COMMIT_SECONDS = 0.8
SMALLEST = 512  # bytes that any SQLite database has: one page

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sites (site INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, op TEXT NOT NULL,
                    units INTEGER NOT NULL);
CREATE TABLE parameters (parameter INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, shape TEXT NOT NULL);
CREATE TABLE steps (step INTEGER PRIMARY KEY, numbers BLOB NOT NULL, losses BLOB NOT NULL,
                    backwards INTEGER NOT NULL, rates BLOB NOT NULL,
                    gradients BLOB, changes BLOB, weights BLOB);
CREATE TABLE gates (step INTEGER, site INTEGER, samples INTEGER NOT NULL, numbers BLOB NOT NULL,
                    open BLOB NOT NULL, PRIMARY KEY (step, site)) WITHOUT ROWID;
CREATE TABLE scans (step INTEGER, site INTEGER, states BLOB NOT NULL, PRIMARY KEY (step, site)) WITHOUT ROWID;
CREATE TABLE events (step INTEGER NOT NULL, after INTEGER NOT NULL, site INTEGER NOT NULL,
                     unit INTEGER NOT NULL, kind TEXT NOT NULL);
CREATE TABLE certificates (step INTEGER NOT NULL, site INTEGER NOT NULL, unit INTEGER NOT NULL,
                           body TEXT NOT NULL);
CREATE TABLE metrics (step INTEGER NOT NULL, name TEXT NOT NULL, value REAL);
CREATE TABLE orders (step INTEGER NOT NULL, samples BLOB NOT NULL);
CREATE TABLE snapshots (step INTEGER PRIMARY KEY, file TEXT NOT NULL);
CREATE TABLE findings (step INTEGER, code TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE outcomes (position INTEGER PRIMARY KEY, change TEXT NOT NULL, seed INTEGER NOT NULL,
                       body TEXT NOT NULL);
"""


def database(path: Path) -> Path:
    """Where the database of the run at ``path`` lies."""
    return path / "run.db"


class Writer:
    """The one writer of a run. Rows wait in memory until its thread commits them.

    A failure to write (a full disk, say) is warned about once and ends the recording, not the
    training. After a fork the child's writer does nothing. A writer that is forgotten, or alive when
    the process ends, is closed. What is added before :meth:`start` is committed together, so that a run
    has all it needs to be read or nothing at all.
    """

    def __init__(self, path: Path) -> None:
        _claim(path)
        self.path = path
        self._worker = _Worker(path)
        self.ask = self._worker.ask
        self.flush = self._worker.flush
        self.add = self._worker.add
        self.start = self._worker.start
        weakref.finalize(self, self._worker.end)

    def close(self) -> None:
        """Commit what is left; nothing can be written afterwards."""
        self._worker.finish()

    def put(self, table: str, *row: Any) -> None:
        """Insert one row, replacing one with the same key."""
        marks = ",".join("?" * len(row))
        self.add(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)

    def meta(self, key: str, value: Any) -> None:
        """Set one entry of ``meta`` to anything that JSON can hold."""
        self.put("meta", key, json.dumps(value))


class _Worker:
    """The thread that owns the connection, and the one queue that feeds it.

    Every commit takes all that the queue holds: a run always ends between two of its rows, in order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = os.getpid()
        self._rows: deque[tuple[str | Callable[..., Any], tuple[Any, ...]]] = deque()
        self._wake = threading.Event()
        self._done = threading.Condition()
        self._asked = self._served = 0
        self._closing = self._failed = False
        self._more: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._work, name="backstory-writer", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def add(self, statement: str | Callable[..., Any], row: tuple[Any, ...]) -> None:
        """Let ``statement`` be executed with ``row`` at the next commit: SQL, or a function.

        A function is called in the writer's thread and returns pairs of SQL and row, or ``None``:
        work that the training thread need not do. Rows of one SQL statement keep their order.
        """
        if not self._failed:
            self._rows.append((statement, row))

    def ask(self, more: Callable[[], None]) -> None:
        """Call ``more`` before every commit, in the writer's thread: it adds what waits elsewhere."""
        self._more = more

    def flush(self) -> None:
        """Return once everything added so far is committed."""
        if not self._working or threading.current_thread() is self._thread:
            return
        with self._done:
            self._asked += 1
            mine = self._asked
            self._wake.set()
            self._done.wait_for(lambda: self._served >= mine or not self._thread.is_alive(), timeout=60)

    def finish(self) -> None:
        """Commit what is left; closing the database behind it goes on in the thread."""
        self._closing = True
        self.flush()

    def end(self) -> None:
        """Finish, and wait until the database is closed.

        The garbage collector may call this in any thread, the writer's own included.
        """
        self.finish()
        if self._working and threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def _working(self) -> bool:
        """False before the start, after the end, and in a forked child."""
        return os.getpid() == self._pid and self._thread.is_alive()

    def _work(self) -> None:
        try:
            with closing(_connect(self.path)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.executescript(
                    f"BEGIN; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT};{SCHEMA}"
                )
                while self._round(connection):
                    self._wake.wait(COMMIT_SECONDS)
        except Exception as error:
            self._failed = True
            self._rows.clear()
            warnings.warn(
                f"backstory stopped recording to {self.path}: {error}. The training itself goes on.",
                RuntimeWarning,
                stacklevel=2,
            )
        finally:
            with self._done:
                self._done.notify_all()

    def _round(self, connection: sqlite3.Connection) -> bool:
        """Commit what is waiting; False once the last row of a closing writer is in."""
        self._wake.clear()
        with self._done:
            asked = self._asked
        closing_now = self._closing
        self._more()
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for _ in range(len(self._rows)):
            statement, row = self._rows.popleft()
            made = [(statement, row)] if isinstance(statement, str) else statement(*row) or ()
            for sql, values in made:
                rows.setdefault(sql, []).append(values)
        if rows:
            if not connection.in_transaction:
                connection.execute("BEGIN")
            for sql, group in rows.items():
                connection.executemany(sql, group)
            connection.execute("COMMIT")
        with self._done:
            self._served = asked
            self._done.notify_all()
        return not closing_now


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(database(path), timeout=30, isolation_level=None)


def transaction(path: Path, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
    """Change a finished run: all statements or none."""
    with closing(_connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, row in statements:
                connection.execute(statement, row)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _claim(path: Path) -> None:
    """Make the folder of a new run, or refuse without touching what is there."""
    if database(path).exists() or (path.exists() and not path.is_dir()):
        raise RunError(
            f"a new run at {path}",
            why="the path already holds a run" if path.is_dir() else "the path is a file",
            instead="another path, or delete the old run first",
        )
    try:
        (path / "snapshots").mkdir(parents=True, exist_ok=True)
        os.close(os.open(database(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError as error:
        raise RunError(
            f"a new run at {path}",
            why=f"its folder cannot be made, or another process has just started one there: {error}",
            instead="a path in a folder that can be written",
        ) from error


class Reader:
    """Reads a run, also while it is being written. Refuses what is no run of this format.

    A run that this process has just written is ``known_good``: looking would wait for its database.
    """

    def __init__(self, path: Path, known_good: bool = False) -> None:
        self.path = path
        if known_good:
            return
        file = database(path)
        if not file.is_file():
            raise RunError(
                f"a run at {path}",
                why=f"there is no {file.name} in it",
                instead="the folder given to watch()",
            )
        self._check(file)

    def _check(self, file: Path) -> None:
        size = file.stat().st_size
        if 0 < size < SMALLEST:
            raise _damaged(self.path, f"{size} bytes are none")
        if size == 0:
            raise RunError(
                f"a run at {self.path}",
                why=f"{file.name} is empty: its recording has just started, or ended before its first commit",
                instead="another look in a second, or the run recorded anew",
            )
        ((found,),), ((version,),) = self.tables("PRAGMA application_id", "PRAGMA user_version")
        if found != APPLICATION_ID:
            raise RunError(
                f"a run at {self.path}",
                why=f"{file.name} was not written by backstory",
                instead="the folder given to watch()",
            )
        if version != FORMAT:
            raise RunError(
                f"a run at {self.path} of format {version}",
                why=f"this version of backstory reads format {FORMAT}",
                instead="the version of backstory that recorded it",
            )
        self.meta()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._reading() as connection:
            return connection.execute(query, values).fetchall()

    def tables(self, *queries: str) -> list[list[tuple[Any, ...]]]:
        """All rows of several queries, as of one moment."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            return [connection.execute(query).fetchall() for query in queries]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        uri = f"{database(self.path).resolve().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)) as connection:
                yield connection
        except sqlite3.DatabaseError as error:
            raise _damaged(self.path, error) from error

    def meta(self) -> dict[str, Any]:
        """Every entry of ``meta``."""
        try:
            return {key: json.loads(value) for key, value in self.rows("SELECT key, value FROM meta")}
        except ValueError as error:
            raise _damaged(self.path, error) from error


def _damaged(path: Path, error: Exception | str) -> RunError:
    return RunError(
        f"a run at {path}",
        why=f"{database(path).name} cannot be read, it is damaged or no SQLite database: {error}",
        instead="a copy of the run, or the run recorded anew",
    )
