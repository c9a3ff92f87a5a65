"""Large objects through boto3, and what they cost the process that serves them: its peak memory, measured from outside."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

MB = 1024 * 1024
MOST = 120 * MB
"""Of the whole serving process: interpreter, service models and all."""

SERVER = """
import json, sys
from pathlib import Path
from tests.aws.cloud import ServerThread, new_key
server = ServerThread(Path(sys.argv[1]))
key = new_key(server)
print(json.dumps([server.url, key.id, key.secret]), flush=True)
sys.stdin.read()
server.close()
"""


class Endless(io.RawIOBase):
    """A file of so many bytes that costs no memory."""

    def __init__(self, size: int) -> None:
        self._block = memoryview(hashlib.sha256(b"seed").digest() * (MB // 32) * 17)
        self._size = size
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = {0: 0, 1: self._at, 2: self._size}[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = self._size - self._at if size < 0 else min(size, self._size - self._at)
        pieces = []
        while size:
            start = self._at % MB
            piece = self._block[start : start + size]
            pieces.append(piece)
            self._at += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Sink(io.RawIOBase):
    """A file that forgets what is written, but for how much it was."""

    def __init__(self) -> None:
        self.at = 0
        self.written = 0
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset
        return offset

    def write(self, data: Any) -> int:
        with self._lock:
            self.written += len(data)
        return len(data)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Any, psutil.Process]]:
    command = [sys.executable, "-c", SERVER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        url, key, secret = json.loads(child.stdout.readline())
        config = Config(retries={"max_attempts": 1, "mode": "standard"}, proxies={})
        names = {"aws_access_key_id": key, "aws_secret_access_key": secret}
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config, **names)
        client.create_bucket(Bucket="large")
        yield client, psutil.Process(child.pid)
        client.close()
        child.stdin.close()


def peak(process: psutil.Process) -> int:
    """Bytes resident at most, ever."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not say")


@pytest.mark.parametrize(
    "size",
    [pytest.param(256 * MB, id="256MB"), pytest.param(1024 * MB, id="1GB", marks=pytest.mark.heavy)],
)
def test_large_objects_are_streamed(served: tuple[Any, psutil.Process], size: int) -> None:
    client, process = served
    client.put_object(Bucket="large", Key="single", Body=Endless(size))
    transfer = TransferConfig(multipart_chunksize=16 * MB, max_concurrency=8)
    client.upload_fileobj(Endless(size), "large", "parts", Config=transfer)
    whole = hashlib.md5()
    for key in ("single", "parts"):
        digest, total = hashlib.md5(), 0
        body = client.get_object(Bucket="large", Key=key)["Body"]
        for piece in body.iter_chunks(MB):
            digest.update(piece)
            total += len(piece)
        assert total == size
        if key == "single":
            whole = digest
        assert digest.digest() == whole.digest()
    sink = Sink()
    client.download_fileobj("large", "parts", sink, Config=transfer)
    assert sink.written == size
    assert client.head_object(Bucket="large", Key="single")["ETag"] == f'"{whole.hexdigest()}"'
    assert peak(process) <= MOST
