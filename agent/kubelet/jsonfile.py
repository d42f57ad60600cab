"""A small JSON file that is written as a whole or not at all: what the kubelet must remember over restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from machinery.log import get_logger
from machinery.pki import write_file

log = get_logger(__name__)


class JsonFile:
    """One file of the kubelet's own. Failures are logged: what runs goes on."""

    options = 0
    """orjson's, for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Any:
        """Its contents; None if there is no file. Raises OSError, ValueError."""
        try:
            return orjson.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None

    def read(self) -> Any:
        """Its contents; None if there are none that can be read."""
        try:
            return self.load()
        except (OSError, ValueError) as error:
            log.error("cannot read file: going on without it", path=str(self.path), err=str(error))
            return None

    def write(self, document: Any) -> None:
        """Replace its contents."""
        try:
            write_file(self.path, orjson.dumps(document, option=self.options))
        except OSError as error:
            log.error("cannot write file", path=str(self.path), err=str(error))
