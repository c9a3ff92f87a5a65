"""TensorFlow Serving's REST address for a script's `handler(data, context)`, which posts to `context.rest_uri` itself.

A thread of the worker answers on loopback while the handler waits. The path begins with a word that only the script is told,
since a port of loopback is open to every user of the machine.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable

_PATH = re.compile(r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+))?(?::(?P<method>[a-z]+))?")
Ask = Callable[[bytes, str, str, str], "tuple[int, bytes]"]
"""(body, model, version or nothing, method or nothing for the state) → (status, JSON)."""


class RestServer:
    """Begins with the first request of a process, since threads do not outlive a fork."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._server: ThreadingHTTPServer | None = None
        self._word = secrets.token_urlsafe(16)

    def uri(self, name: str, version: str | None, method: str) -> str:
        """Where the script posts to. Raises OSError."""
        if self._server is None:
            self._server = self._start()
        port = self._server.server_address[1]
        return (
            f"http://127.0.0.1:{port}/{self._word}/v1/models/{name}"
            + (f"/versions/{version}" if version else "")
            + f":{method}"
        )

    def _start(self) -> ThreadingHTTPServer:
        ask, prefix = self._ask, f"/{self._word}"

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                self._answer(self.rfile.read(int(length)) if length.isdigit() else b"")

            def do_GET(self) -> None:
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                found = _PATH.fullmatch(self.path[len(prefix) :]) if self.path.startswith(prefix) else None
                if found is None or (self.command == "POST") != bool(found["method"]):
                    status, content = 404, json.dumps({"error": f"Malformed request: {self.command} {self.path}"}).encode()
                else:
                    status, content = ask(body, found["name"], found["version"] or "", found["method"] or "")
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the endpoint's log is the model's."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server
