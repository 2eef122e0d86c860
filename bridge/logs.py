"""Logs: one JSON line an event on standard error. Events are `noun.verb`; fields are ids and codes that we minted.

Only what is on the list gets out: a value that is not named here is dropped, so that no patient's value can slip in.
"""

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

FIELDS = frozenset(
    {
        "event", "level", "timestamp", "message", "reason", "error", "listener", "known", "state", "swept", "in_doubt",
        "resumed", "mid_frame", "part", "address", "number", "seconds", "outbound", "commitment", "failed",
        "beyond", "withheld",
    }
)  # fmt: skip
"""Every field that a log line may carry."""


def _allowed(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value for key, value in line.items() if key in FIELDS}


class _StandardError:
    """The standard error of the moment. A sink that is gone or full takes nothing down with it (F45)."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure(level: str = "info") -> None:
    """Set logging up for the process; libraries' own logs are kept to errors."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _allowed,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.CRITICAL)
