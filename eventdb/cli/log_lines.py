"""How what a service logs is written: one line an event on stderr, as text for people or as JSON for programs."""

from __future__ import annotations

import json
import logging
import time
from enum import Enum
from typing import Annotated, Final

import typer

TEXT: Final = "%(asctime)s %(levelname)s %(message)s"


class LogFormat(Enum):
    """What `--log-format` takes."""

    TEXT = "text"
    JSON = "json"


LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        envvar="EVENTDB_LOG_FORMAT", help="How events are logged on stderr, one a line: text, or JSON objects."
    ),
]


class TextLine(logging.Formatter):
    """Time, level, message. Whatever has lines of its own, a traceback say, is folded into the one."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).strip().replace("\r", "").replace("\n", "\\n")


class JsonLine(logging.Formatter):
    """{"time": …, "level": …, "logger": …, "message": …}, and "trace" where a fault of the program was logged."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, str] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(form: LogFormat) -> None:
    """From now on all of this process logs so. Called once, before anything is logged."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLine() if form is LogFormat.JSON else TextLine(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def writes_json() -> bool:
    """Whether the last word of a command has to be JSON too."""
    return any(isinstance(handler.formatter, JsonLine) for handler in logging.getLogger().handlers)
