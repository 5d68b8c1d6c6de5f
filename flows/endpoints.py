"""What a live job answers over HTTP: /metrics for Prometheus, /health and /ready for who starts and restarts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flows.metrics import JobCollector

if TYPE_CHECKING:
    from flows.monitor import Monitor


def make_app(monitor: Monitor) -> Starlette:
    """Make the app of a live job's endpoints."""
    registry = CollectorRegistry()
    registry.register(JobCollector(monitor))
    ProcessCollector(registry=registry)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def health(_: Request) -> Response:
        return answer(monitor, monitor.judge().healthy)

    async def ready(_: Request) -> Response:
        return answer(monitor, monitor.judge().ready)

    return Starlette(routes=[Route("/metrics", metrics), Route("/health", health), Route("/ready", ready)])


def answer(monitor: Monitor, good: bool) -> Response:
    """Answer 200 or 503, with the reason."""
    found = monitor.judge()
    age = None if found.silent_s is None else round(found.silent_s, 1)
    body = {"state": found.state, "reason": found.reason or None, "durable_epoch_age_s": age}
    return JSONResponse(body, 200 if good else 503)
