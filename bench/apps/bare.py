"""The bare server: asyncio.Protocol on httptools and uvloop, nothing else. Echo, or one scikit-learn model."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable

import httptools
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def scikit_learn(path: str) -> Callable[[bytes], bytes]:
    import joblib  # noqa: PLC0415 (only the environment that serves a model has it)
    import numpy as np  # noqa: PLC0415

    model = joblib.load(path)
    return lambda body: json.dumps(model.predict(np.array(json.loads(body), dtype=np.float32)).tolist()).encode()


class Bare(asyncio.Protocol):
    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = []

    def on_body(self, piece: bytes) -> None:
        self.body.append(piece)

    def on_message_complete(self) -> None:
        out = self.answer(self.body[0] if len(self.body) == 1 else b"".join(self.body))
        self.transport.write(HEAD % len(out) + out)  # type: ignore[attr-defined]


async def serve(arguments: argparse.Namespace) -> None:
    answer = scikit_learn(arguments.model) if arguments.model else lambda body: body
    loop = asyncio.get_running_loop()
    servers = []  # uvloop closes a server that nobody holds
    if arguments.unix:
        servers.append(await loop.create_unix_server(lambda: Bare(answer), arguments.unix))
    if arguments.port:
        servers.append(await loop.create_server(lambda: Bare(answer), "127.0.0.1", arguments.port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--unix")
    parser.add_argument("--model")
    uvloop.run(serve(parser.parse_args()))
