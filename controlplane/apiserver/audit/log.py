"""The audit log as a file that is rotated: by size, kept by age and number.

Source: gopkg.in/natefinch/lumberjack.v2, which upstream uses.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

STANDARD_OUTPUT = "-"
_STAMP = "%Y-%m-%dT%H-%M-%S"
_DEFAULT_MEGABYTES = 100


@dataclass(frozen=True, slots=True)
class Rotation:
    """When to begin a new file, and which old ones to keep; 0 is no limit (of size: 100 MB)."""

    max_megabytes: int = 0
    max_backups: int = 0
    max_age_days: int = 0
    compress: bool = False


class LogFile:
    """Appends lines. `-` is standard output."""

    def __init__(self, path: str, rotation: Rotation, now: Callable[[], datetime]) -> None:
        """Raises SettingsError if the file can't be written."""
        self._path = Path(path)
        self._rotation = rotation
        self._now = now
        self._limit = (rotation.max_megabytes or _DEFAULT_MEGABYTES) * 1024 * 1024
        self._size = 0
        if path == STANDARD_OUTPUT:
            self._file = sys.stdout.fileno()
            self._limit = 0
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as exc:
            raise SettingsError(f"--audit-log-path {path}: {exc.strerror}") from exc

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size

    def write(self, line: bytes) -> None:
        """Append a line (with its end). What can't be written is told in the server's own log."""
        try:
            if self._limit and self._size + len(line) > self._limit and self._size:
                self._rotate()
            while line:
                written = os.write(self._file, line)
                self._size += written
                line = line[written:]
        except OSError as exc:
            log.error("audit event not written", path=str(self._path), error=exc)

    def _rotate(self) -> None:
        os.close(self._file)
        moment = self._now().astimezone(UTC)
        stamp = f"{moment.strftime(_STAMP)}.{moment.microsecond // 1000:03}"
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        self._open()
        self._tidy(moment)

    def _tidy(self, moment: datetime) -> None:
        rotation = self._rotation
        old = sorted(self._backups(), reverse=True)
        oldest = moment - timedelta(days=rotation.max_age_days)
        for index, (made, path) in enumerate(old):
            beyond = rotation.max_backups and index >= rotation.max_backups
            if beyond or (rotation.max_age_days and made < oldest):
                path.unlink(missing_ok=True)
            elif rotation.compress and path.suffix != ".gz":
                packed = path.with_name(path.name + ".gz")
                packed.touch(mode=0o600)
                packed.write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()

    def _backups(self) -> list[tuple[datetime, Path]]:
        stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
        name = re.compile(rf"{stem}-(\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\d)\.(\d{{3}}){suffix}(?:\.gz)?")
        found = []
        for path in self._path.parent.iterdir():
            match = name.fullmatch(path.name)
            if match is not None:
                made = datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC, microsecond=int(match[2]) * 1000)
                found.append((made, path))
        return found

    def close(self) -> None:
        """Close the file."""
        if self._path.name != STANDARD_OUTPUT:
            os.close(self._file)
