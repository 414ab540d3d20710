"""A small REST API on the loopback interface: pages, bearer tokens, and what was asked of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

#: Rows by path; a page has two of them.
ROWS = {
    "/customers": [{"id": number, "name": f"Customer {number}"} for number in range(1, 6)],
    "/orders": [
        {"id": number, "updated_at": f"2024-05-0{number}T12:00:00Z", "items": [{"sku": "a"}]}
        for number in range(1, 4)
    ],
}
PAGE = 2


@dataclass
class Api:
    """The API while it runs."""

    url: str
    token: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve(token: str = "Pq7-loopback") -> Iterator[Api]:  # noqa: S107 - of a test
    """Serve the rows to whoever has the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.asked.append(self.path)
            url = urlsplit(self.path)
            if self.headers.get("Authorization") != f"Bearer {token}":
                self._answer(401, {"error": "who are you?"})
            elif url.path not in ROWS:
                self._answer(404, {"error": "no such thing"})
            else:
                page = int(parse_qs(url.query).get("page", ["1"])[0])
                rows = ROWS[url.path]
                found = rows[(page - 1) * PAGE : page * PAGE]
                self._answer(200, {"data": found, "total": -(-len(rows) // PAGE)})

        def _answer(self, status: int, body: object) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api = Api(f"http://127.0.0.1:{server.server_port}/", token)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
