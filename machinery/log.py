"""Logs: a constant message and fields, one line each, on standard error.

    log = get_logger(__name__)
    log.info("pod bound", pod=key, node=name)

The lines look like those of Kubernetes' own components (klog's text format), so that people's eyes and tools work:
`I1122 10:07:03.123456    4711 binding.py:42] "pod bound" pod="default/web" node="w1"`.

Source: k8s.io/klog/v2, "structured logging".
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

_LETTERS = {logging.DEBUG: "I", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}
_PID = os.getpid


class Logger:
    """A named logger whose methods take fields as keywords; values are shown as JSON would show them."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, message: str, **fields: Any) -> None:
        """For those who debug this code (-v=4 and above)."""
        self._log(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Something worth knowing happened."""
        self._log(logging.INFO, message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Something is not as it should be, and work goes on."""
        self._log(logging.WARNING, message, fields)

    def error(self, message: str, *, error: BaseException | None = None, trace: bool = False, **fields: Any) -> None:
        """Something failed. `trace` adds the stack, for failures that are defects of this code."""
        if error is not None:
            fields["err"] = f"{type(error).__name__}: {error}" if trace or not str(error) else str(error)
        self._log(logging.ERROR, message, fields, error if trace else None)

    def _log(self, level: int, message: str, fields: dict[str, Any], trace: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, message, extra={"fields": fields}, exc_info=trace, stacklevel=3)


def get_logger(name: str) -> Logger:
    """The logger of a module: `get_logger(__name__)`."""
    return Logger(name)


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.localtime(record.created)
        micros = int(record.created % 1 * 1_000_000)
        stamp = time.strftime("%m%d %H:%M:%S", moment)
        text = json.dumps(record.getMessage(), ensure_ascii=False)
        fields = getattr(record, "fields", {})
        told = "".join(f" {name}={_show(value)}" for name, value in fields.items())
        letter = _LETTERS.get(record.levelno, "I")
        head = f"{letter}{stamp}.{micros:06d} {_PID():7d} {record.filename}:{record.lineno}]"
        line = f"{head} {text}{told}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def setup(verbosity: int = 0) -> None:
    """Send logs to standard error; `verbosity` is upstream's -v (4 and above: debug)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 4 else logging.INFO)
    for noisy in ("aiohttp.access", "asyncio", "pyroute2", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
