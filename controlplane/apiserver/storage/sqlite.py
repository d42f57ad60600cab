"""Storage in one SQLite file: what `navarch dev` keeps between its runs.

Reads are served from memory; each write is committed to the file before it takes effect, so that a process that is
killed at any moment loses nothing it has acknowledged.  The file is written ahead (WAL) and not synced at each
commit: a machine that loses power may lose the last moments, and never the file.

Source: https://www.sqlite.org/wal.html; https://www.sqlite.org/pragma.html (synchronous, locking_mode).
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from controlplane.apiserver.storage.contract import Stored
from controlplane.apiserver.storage.memory import Kept, MemoryStorage
from machinery.errors import SettingsError, StorageUnavailable

_APPLICATION = 0x4E415643  # "NAVC": in the file's header, so that another program's database is not taken for ours
_LAYOUT = 1
_SCHEMA = """
CREATE TABLE objects (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, expires REAL NOT NULL)
    WITHOUT ROWID;
CREATE TABLE store (revision INTEGER NOT NULL);
INSERT INTO store VALUES (1);
"""


def open_storage(path: Path) -> MemoryStorage:
    """Storage on the file, which is made if it is not there (0600). Call inside the event loop that uses it.

    Raises:
        SettingsError: the file can't be had, is in use, or is not Navarch's.
    """
    return MemoryStorage(journal=SqliteJournal(path))


class SqliteJournal:
    """Fulfils the journal's contract on one file, which no other process can open meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        except OSError as exc:
            raise SettingsError(f"{path}: {exc.strerror}") from exc
        except sqlite3.Error as exc:
            raise SettingsError(f"{path}: {exc}") from exc
        try:
            self._prepare()
        except sqlite3.OperationalError as exc:
            self._db.close()
            in_use = exc.sqlite_errorcode == sqlite3.SQLITE_BUSY
            raise SettingsError(f"{path}: {'in use by another process' if in_use else exc}") from exc
        except sqlite3.DatabaseError as exc:
            self._db.close()
            raise SettingsError(f"{path}: not a store of Navarch's: {exc}") from exc
        except SettingsError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        application, layout = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION:
            raise SettingsError(f"{self._path}: a database of another program")
        if tables and layout != _LAYOUT:
            raise SettingsError(f"{self._path}: written by another version of Navarch (layout {layout}, not {_LAYOUT})")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")  # takes the lock, which this process then keeps
        if not tables:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_LAYOUT}")
        db.execute("COMMIT")

    def load(self) -> Kept:
        """See the contract."""
        try:
            revision = self._db.execute("SELECT revision FROM store").fetchone()[0]
            rows = self._db.execute("SELECT key, value, revision, expires FROM objects ORDER BY key").fetchall()
        except sqlite3.Error as exc:
            raise StorageUnavailable(f"{self._path}: {exc}") from exc
        return Kept(revision, [(Stored(key, value, written), expires) for key, value, written, expires in rows])

    def put(self, stored: Stored, expires_at: float) -> None:
        """See the contract."""
        row = (stored.key, stored.value, stored.revision, expires_at)
        self._write("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", row, stored.revision)

    def delete(self, key: str, revision: int) -> None:
        """See the contract."""
        self._write("DELETE FROM objects WHERE key = ?", (key,), revision)

    def _write(self, statement: str, values: tuple[object, ...], revision: int) -> None:
        db = self._db
        try:
            db.execute("BEGIN")
            try:
                db.execute(statement, values)
                db.execute("UPDATE store SET revision = ?", (revision,))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as exc:
            raise StorageUnavailable(f"{self._path}: {exc}") from exc

    def close(self) -> None:
        """See the contract."""
        self._db.close()
