"""Traces by OpenTelemetry (`traces-endpoint`): what a node did that takes time, as spans for a collector.

Off, nothing of it is imported and nothing is done for a command or a record. On, a span costs some ten microseconds, so
what happens all the time is sampled: of the records and of the slow commands, the first few of each second. Names and
numbers are shown, never a key, an argument, a user or an address of a client.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, cast

MISSING: Final = "traces-endpoint needs OpenTelemetry, which is not installed: pip install 'eventdb[otel]'"
SAMPLES_A_SECOND: Final = 10  # of the records, and of the slow commands
EXPORT_S_MAX: Final = 5.0  # for the collector to take what is there, when the node ends

Method = TypeVar("Method", bound=Callable[..., Coroutine[Any, Any, Any]])


class Few:
    """Lets through the first few of each second."""

    def __init__(self) -> None:
        self.second, self.count = 0, 0

    def passes(self, now: float) -> bool:
        if int(now) != self.second:
            self.second, self.count = int(now), 0
        self.count += 1
        return self.count <= SAMPLES_A_SECOND


class Traces:
    """Of one node. A thread of the library's own sends the spans; what it cannot send in time it drops."""

    def __init__(self, endpoint: str, node: str, version: str) -> None:
        """Raises ValueError: the library is not installed, or this is no endpoint."""
        if not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"traces-endpoint {endpoint!r} is no URL: write http://HOST:4318/v1/traces")
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise ValueError(MISSING) from None
        about = {"service.name": "eventdb", "service.instance.id": node, "service.version": version}
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S_MAX)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
        self.tracer: Any = self._provider.get_tracer("eventdb", version)
        self._records, self._commands = Few(), Few()

    def commit(self, count: int, first_offset: int, took_s: float, opened: float) -> None:
        """A record is durable: `took_s` after it was sent; opened: by time.monotonic, when its first write came."""
        now = time.time()
        if self._records.passes(now):
            began = now - max(took_s, time.monotonic() - opened)
            facts = {"eventdb.transactions": count, "eventdb.first_offset": first_offset, "eventdb.append_s": took_s}
            self._past("commit", began, now, facts)

    def command(self, name: str, usec: float) -> None:
        """A command was slow."""
        now = time.time()
        if self._commands.passes(now):
            self._past("command", now - usec / 1e6, now, {"db.system": "redis", "db.operation": name})

    def _past(self, name: str, began: float, ended: float, facts: dict[str, Any]) -> None:
        from opentelemetry.context import Context

        span = self.tracer.start_span(name, context=Context(), start_time=int(began * 1e9), attributes=facts)
        span.end(end_time=int(ended * 1e9))

    def close(self) -> None:
        """Send what is there. Blocks for EXPORT_S_MAX at most."""
        self._provider.force_flush(int(EXPORT_S_MAX * 1000))
        self._provider.shutdown()


def traced(name: str, facts: Callable[[Any], dict[str, Any]]) -> Callable[[Method], Method]:
    """Make each run of a method a span, inside the one that runs; its object has `traces`, None while they are off.

    facts: what is known of the object when it ends.
    """

    def wrap(method: Method) -> Method:
        @functools.wraps(method)
        async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            traces: Traces | None = self.traces
            if traces is None:
                return await method(self, *args, **kwargs)
            # A failure is the span's status; its text is in the log, and may name what no span should.
            with traces.tracer.start_as_current_span(
                name, record_exception=False, set_status_on_exception=False
            ) as span:
                try:
                    return await method(self, *args, **kwargs)
                except BaseException as error:
                    from opentelemetry.trace import Status, StatusCode

                    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                    raise
                finally:
                    span.set_attributes(facts(self))

        return cast(Method, run)

    return wrap
