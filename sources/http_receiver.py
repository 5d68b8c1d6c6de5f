"""A receiver that listens for HTTP: an ASGI app that writes to an inbox, served in a thread of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clock import Clock, to_us
from config import SourceRules, split_address
from errors import ConfigError, InboxFullError
from serving import HttpServer
from sources.committing import ClosedError, Committer
from sources.http_calls import Bodies, Counted, Refused, answer_refused
from sources.inbox import Inbox, Received

POLL_S = 0.1


@dataclass
class Intake:
    """What the routes of an app work with."""

    rules: SourceRules
    committer: Committer
    clock: Clock
    bodies: Bodies
    closing: bool = False

    def check_open(self) -> None:
        """Raise Refused where the job stops."""
        if self.closing:
            raise Refused(503, "the job stops: come again")

    def read_clock(self) -> int:
        """Return what time it is, in microseconds."""
        return to_us(self.clock())

    async def commit(self, records: Sequence[Received]) -> None:
        """Return once the records are on disk; raises Refused, and then the sender has to come again."""
        if not records:
            return
        try:
            await self.committer.commit(records)
        except InboxFullError:
            raise Refused(429, "too much waits to be read: come again") from None
        except (ClosedError, OSError):
            raise Refused(503, "nothing can be written now: come again") from None


MakeApp = Callable[[Intake], tuple[list[BaseRoute], list[Middleware]]]


class HttpReceiver:
    """Listens at a source's address; `answers` counts what was answered by status, `url` is there while it runs."""

    def __init__(self, rules: SourceRules, inbox: Inbox, clock: Clock, make_app: MakeApp) -> None:
        """Raises ConfigError where the address is none, or a key is empty."""
        self.rules, self.inbox, self.clock, self.make_app = rules, inbox, clock, make_app
        self.address = read_address(rules)
        if not all(rules.keys):
            raise ConfigError(f"[[source]] {rules.name}: keys: one is empty", remedy="set it, or take it out")
        self.answers: Counter[int] = Counter()
        self.committer: Committer | None = None
        self.url = ""
        self.listening = threading.Event()

    @property
    def name(self) -> str:
        return self.rules.name

    def run(self, stop: threading.Event) -> None:
        """Answer until told to stop; raises ConfigError where the address can't be had, OSError of a full disk."""
        with Committer(self.inbox) as committer:
            self.committer = committer
            intake = Intake(self.rules, committer, self.clock, Bodies(self.rules.max_body))
            counted = Counted(build_app(intake, self.make_app))
            self.answers = counted.answers
            with HttpServer(counted, *self.address) as server:
                self.url = server.url
                self.listening.set()
                while committer.failure is None and not stop.wait(POLL_S):
                    pass
                intake.closing = True
        if committer.failure is not None:
            raise committer.failure


def build_app(intake: Intake, make_app: MakeApp) -> Starlette:
    """Build the app of a kind of source, with the route that all have."""

    async def tell_health(_: Request) -> Response:
        return JSONResponse({"status": "stopping" if intake.closing else "ok"}, 503 if intake.closing else 200)

    routes, middleware = make_app(intake)
    app = Starlette(
        routes=[Route("/health", tell_health), *routes],
        middleware=middleware,
        exception_handlers=dict.fromkeys((404, 405), answer_refused) | {Refused: answer_refused},
    )
    app.router.redirect_slashes = False
    return app


def read_address(rules: SourceRules) -> tuple[str, int]:
    """Return the host and port that a source listens at; raises ConfigError."""
    try:
        return split_address(rules.listen)
    except ValueError:
        raise ConfigError(
            f"[[source]] {rules.name}: listen = {rules.listen!r} is not HOST:PORT",
            remedy='write it like "127.0.0.1:8080", or "0.0.0.0:8080" for all addresses of this machine',
        ) from None
