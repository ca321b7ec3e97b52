"""Log lines on standard error: JSON for machines, text for a terminal; the same facts in both."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from mlops_pipeline.config.moments import rfc3339

_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def set_up(form: Literal["auto", "json", "text"]) -> None:
    """Send every line of this process to standard error in one form."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(Text() if text else Json())
    logging.basicConfig(handlers=[output], level=logging.INFO, force=True)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage(), **facts(record)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class Text(logging.Formatter):
    """Time, event and facts as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        shown = " ".join(f"{key}={_printable(value)}" for key, value in facts(record).items())
        line = f"{_time(record)} {record.levelname.lower():<7} {record.getMessage()}{f'  {shown}' if shown else ''}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What a call added to its line by ``extra``."""
    return {key: value for key, value in vars(record).items() if key not in _USUAL}


def _printable(value: Any) -> str:
    """A client's words must not write lines of their own, nor move a terminal's cursor."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def _time(record: logging.LogRecord) -> str:
    return rfc3339(datetime.fromtimestamp(record.created, UTC), "milliseconds")
