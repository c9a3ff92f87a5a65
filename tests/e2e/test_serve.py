"""`slipway serve`: one model in the foreground, asked over plain HTTP, loaded again when its files change."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.cli.main import main
from tests.deadlines import PATIENCE
from tests.e2e.deployments import archive, until
from tests.ports import free_port

SCRIPT = """
def model_fn(model_dir):
    return FACTOR

def predict_fn(data, model):
    return data * model
"""


class Served:
    """A running `slipway serve`, and what it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until(lambda: self.printed("http://"), what="the address")
        found = re.search(r"http://127.0.0.1:(\d+)/", self.text)
        assert found
        self.url = found[0]

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def printed(self, words: str, times: int = 1) -> bool:
        return self.text.count(words) >= times

    def ask(self, path: str = "invocations", body: bytes | None = b"1,2") -> tuple[int, bytes]:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "text/csv"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


@contextlib.contextmanager
def serve(source: Path, *more: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "slipway.cli.main", "serve", str(source), "--framework", "sklearn", "--port", "0", *more]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield Served(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def model(folder: Path, factor: str) -> Path:
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "inference.py").write_text(SCRIPT.replace("FACTOR", factor))
    return folder


def test_loaded_again_when_its_code_changes(tmp_path: Path) -> None:
    source = model(tmp_path / "m", "2")
    with serve(source, "--profile") as served:
        assert served.ask("ping", None) == (200, b"")
        assert served.ask() == (200, b"[[2.0, 4.0]]")
        until(lambda: served.printed("predict_fn"), what="the profile")
        assert re.search(r"ms for 3 bytes, input_fn [\d.]+ ms, predict_fn [\d.]+ ms, output_fn [\d.]+ ms", served.text)
        assert served.ask("else")[0] == 404
        model(source, "3")
        until(lambda: served.printed("[slipway] ready", 2), what="the second load")
        assert served.ask() == (200, b"[[3.0, 6.0]]")
        (source / "code" / "inference.py").write_text("def model_fn(:\n")
        until(lambda: served.printed("could not be loaded"), what="the failure")
        assert served.ask()[0] == 503
        assert "syntax" in served.text.lower()
        (source / "code" / "requirements.txt").write_text("/etc/passwd\n")
        until(lambda: served.printed("not loaded: requirements"), what="the refusal")
        (source / "code" / "requirements.txt").unlink()
        model(source, "4")
        until(lambda: served.printed("[slipway] ready", 3), what="the third load")
        assert served.ask() == (200, b"[[4.0, 8.0]]")


def test_a_tarball_and_a_debugger(tmp_path: Path) -> None:
    made = tmp_path / "model.tar.gz"
    made.write_bytes(archive({"code/inference.py": SCRIPT.replace("FACTOR", "__import__('os').environ['BY'] and 5")}))
    port = free_port()
    with serve(made, "--debugger", str(port), "--env", "BY=x") as served:
        assert served.ask() == (200, b"[[5.0, 10.0]]")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            assert client.recv(100).startswith(b"Content-Length: ")
        time.sleep(0.01)
        made.write_bytes(archive({"code/inference.py": SCRIPT.replace("FACTOR", "6")}))
        until(lambda: served.printed("[slipway] ready", 2), what="the second load")
        assert served.ask() == (200, b"[[6.0, 12.0]]")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none"], "there is no"),
        (["."], "--framework sklearn"),
        ([".", "--framework", "cobol"], "no framework 'cobol'"),
        ([".", "--framework", "sklearn", "--env", "A"], "NAME=VALUE"),
        ([".", "--image", "nobody/knows-it"], "slipway images add"),
        (["broken", "--framework", "sklearn", "--port", "0"], "not a tar archive"),
    ],
)
def test_misuse(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").write_bytes(b"no archive")
    assert main(["serve", *arguments, *([] if "--port" in arguments else ["--port", "0"])]) == 2
    assert words in capsys.readouterr().err
