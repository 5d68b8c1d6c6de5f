"""The collector and the web hook for the contract: a sender that tries again until it is answered."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Sequence

from config import SourceRules
from tests.contracts.rig import PATIENCE_S, Rig

KEY = "right"
AT_ONCE = 100
BLANK = b"null"


class HttpRig(Rig):
    """Sends arrays of records; what is no JSON can't stand in one, and is refused when it comes alone."""

    keeps = False
    path = ""

    def __init__(self, kind: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = int(server.getsockname()[1])
        self.rules = SourceRules("s", kind, "segment", listen=f"127.0.0.1:{self.port}", keys=(KEY,))

    def wrap(self, records: Sequence[bytes]) -> bytes:
        """Make the body of a request."""
        return b"[%s]" % b",".join(records)

    def send(self, records: Sequence[bytes | None]) -> None:
        for begin in range(0, len(records), AT_ONCE):
            body = self.wrap([record or BLANK for record in records[begin : begin + AT_ONCE]])
            assert self.post_until(body, 200) == 200

    def send_poison(self, records: Sequence[bytes]) -> list[bytes]:
        taken = [record for record in records if is_json(record)]
        self.send(taken)
        assert {self.post(record) for record in records if record not in taken} <= {400}
        return taken

    def send_until_refused(self, records: Sequence[bytes]) -> int:
        for count, record in enumerate(records):
            if self.post_until(self.wrap([record]), 200, 429) == 429:
                return count
        return len(records)

    def restart(self) -> None:
        """Die in the middle of a request, as a sender may."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as client:
            head = f"POST {self.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"
            client.sendall(head.encode() + self.wrap([b'{"half": 1}'])[:-3])

    def post_until(self, body: bytes, *wanted: int) -> int:
        """Send a request until it is answered in one of these ways."""
        until = time.monotonic() + PATIENCE_S
        while (status := self.post(body)) not in wanted:
            assert time.monotonic() < until, "nobody took it"
            time.sleep(0.05)
        return status

    def post(self, body: bytes) -> int:
        """Send a request; return the answer's status, 0 where there was nobody to answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("POST", self.path, body)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


class WebhookRig(HttpRig):
    """Deliveries of Event Grid, of records without an id: none is taken for another one's second delivery."""

    path = f"/?code={KEY}"

    def __init__(self) -> None:
        super().__init__("webhook")


class CollectorRig(HttpRig):
    """Batches of calls."""

    path = f"/v1/batch?writeKey={KEY}"

    def __init__(self) -> None:
        super().__init__("collector")

    def wrap(self, records: Sequence[bytes]) -> bytes:
        return b'{"batch": %s}' % super().wrap(records)


def is_json(record: bytes) -> bool:
    """Tell whether a record can stand in an array."""
    try:
        json.loads(record.decode())
    except ValueError:
        return False
    return True
