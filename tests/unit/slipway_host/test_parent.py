"""The parent: readiness, replacement of dead and hung workers, stopping, dying together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipway_host import frames
from slipway_host.parent import Config, prepare_environment
from tests.deadlines import PATIENCE, Watch

from .running import Host, alive, ask, children_of, eventually

WHO = """
import os, threading, time

def model_fn(model_dir):
    return os.getpid()

def transform_fn(model, data, content_type, accept):
    data = data.decode() if isinstance(data, bytes) else data
    if data == "die":
        os._exit(9)
    if data.startswith("sleep"):
        time.sleep(float(data.split()[1]))
    return f"{os.getpid()} {model} {os.environ.get('OMP_NUM_THREADS')}"
"""


def pids(host: Host, index: int = 0) -> list[str]:
    """[worker, process that loaded the model, OMP_NUM_THREADS]"""
    return host.invoke(b"who", index=index).text.split()


def others_can_read(python: str) -> bool:
    if not Path(python).exists():
        return False
    library = subprocess.run([python, "-c", "import os; print(os.__file__)"], check=True, capture_output=True, text=True).stdout
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in Path(library).parents)


def test_ping_is_503_until_the_model_is_loaded_and_can_be_waited_for(host: Host) -> None:
    gate = host.folder / "gate"
    host.script(
        f"import os, time\ndef model_fn(d):\n    while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        "def transform_fn(*a): return b''\n"
    )
    host.launch()
    assert host.ping().status == 503
    assert host.ping(wait=0.05).status == 503
    gate.touch()
    reply = host.ping(wait=20)
    assert (reply.status, reply.body, reply.headers["x-slipway-workers"]) == (200, b"", "1")
    assert host.ping().status == 200
    path = str(host.run / "host.sock")
    assert ask(path, "GET", "/other").status == 404
    assert ask(path, "POST", "/ping").status == 405


def test_one_worker_is_one_process_beside_the_parent(host: Host) -> None:
    host.script(WHO)
    host.start()
    assert len(host.children()) == 1
    worker, loader, threads = pids(host)
    assert worker == loader
    assert threads == "None"


def test_workers_share_one_loaded_model(host: Host) -> None:
    host.script(WHO)
    host.start(workers=2, cpus=2)
    first, second = pids(host, 0), pids(host, 1)
    assert first[0] != second[0]
    assert first[1] == second[1]
    assert int(first[1]) in host.children()
    assert first[2] == "1"


def test_a_model_that_left_threads_behind_is_loaded_by_each_worker(host: Host) -> None:
    host.script(
        WHO.replace(
            "    return os.getpid()\n",
            "    threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n    return os.getpid()\n",
            1,
        )
    )
    host.start({"OMP_NUM_THREADS": "7"}, workers=2, cpus=2)
    first, second = pids(host, 0), pids(host, 1)
    assert first[0] == first[1]
    assert second[0] == second[1]
    assert first[0] != second[0]
    assert first[2] == "7"
    assert host.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dead_worker_is_replaced_and_its_address_stays(host: Host, workers: int) -> None:
    host.script(WHO)
    host.start(workers=workers)
    before = pids(host)
    with pytest.raises(ConnectionError):
        host.invoke(b"die")
    after = pids(host)  # connects to the same path at once, and waits
    assert after[0] != before[0]
    if workers > 1:
        assert after[1] == before[1]
    assert "ended (status 9)" in host.output()


def test_the_process_that_shares_the_model_is_replaced_with_its_workers(host: Host) -> None:
    host.script(WHO)
    host.start(workers=2)
    worker, loader, _ = pids(host)
    os.kill(int(loader), signal.SIGKILL)
    eventually(lambda: not alive(int(worker)))
    after = pids(host)
    assert after[1] != loader
    assert host.ping(wait=20).status == 200


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("framed", [True, False])
def test_a_worker_that_outlives_its_request_is_killed_and_replaced(host: Host, workers: int, framed: bool) -> None:
    host.script(WHO)
    host.start(workers=workers, grace_seconds=0.2)
    before = pids(host)[0]
    started = Watch()
    if framed:
        client = host.frames()
        client.send(1, b"sleep 60", {"Content-Type": "text/csv"}, timeout=100)
        with pytest.raises(ConnectionError):
            client.frame()
    else:
        with pytest.raises(ConnectionError):
            ask(host.worker(), "POST", "/invocations", b"sleep 60", {frames.TIMEOUT_HEADER: "100", "Content-Type": "text/csv"})
    assert started.seconds >= 0.3
    assert started.free < 5
    assert pids(host)[0] != before
    assert "did not end its request in time" in host.output()


def abandon(host: Host, name: int, index: int = 0) -> int:
    return ask(str(host.run / "host.sock"), "POST", f"/abandon?worker={index}&request={name}").status


@pytest.mark.parametrize("framed", [False, True], ids=["http", "frames"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_at_a_request_that_nobody_wants_is_killed_and_replaced(host: Host, workers: int, framed: bool) -> None:
    host.script(WHO)
    host.start(workers=workers, grace_seconds=0.3)
    worker = int(pids(host, workers - 1)[0])
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(host.worker(workers - 1))
        if framed:
            client.sendall(frames.hello() + frames.pack(frames.REQUEST, 77, body=b"sleep 60"))
            assert client.recv(100) == frames.hello()
        else:
            head = f"POST /invocations HTTP/1.1\r\nHost: x\r\n{frames.NAME_HEADER}: 77\r\nContent-Length: 8\r\n\r\n"
            client.sendall(head.encode() + b"sleep 60")
        assert abandon(host, 76, workers - 1) == 202
        began = Watch()
        assert abandon(host, 77, workers - 1) == 202
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
    assert began.seconds > 0.25
    assert began.free < 3
    eventually(lambda: not alive(worker))
    assert int(pids(host, workers - 1)[0]) != worker
    assert "nobody waits for: killed" in host.output()


def test_a_request_that_ends_within_the_grace_does_not_cost_the_worker_and_the_next_is_left_alone(host: Host) -> None:
    host.script(WHO)
    host.start(grace_seconds=1.5)
    worker = int(pids(host)[0])
    client = host.frames()
    client.send(1, b"sleep 0.2", {"Content-Type": "text/csv"})
    client.send(2, b"sleep 2", {"Content-Type": "text/csv"})
    assert abandon(host, 1) == 202
    for ident in (1, 2):
        assert client.frame()[1] == ident
    assert int(pids(host)[0]) == worker


def test_a_request_that_nobody_wants_already_when_it_begins(host: Host) -> None:
    """It was sent ahead; what is behind it comes back unanswered."""
    host.script(WHO)
    host.start(grace_seconds=0.3)
    client = host.frames()
    client.send(1, b"sleep 0.5", {"Content-Type": "text/csv"})
    client.send(2, b"sleep 60", {"Content-Type": "text/csv"})
    client.send(3, b"sleep 0", {"Content-Type": "text/csv"})
    assert abandon(host, 2) == 202
    assert client.frame()[1] == 1
    with pytest.raises(ConnectionError):
        client.frame()


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "/abandon", 202),
        ("POST", "/abandon?worker=9&request=1", 202),
        ("POST", "/abandon?worker=x&request=%C2%B2", 202),
        ("POST", "/abandon?worker=0&request=99999999999999999999999", 202),
        ("GET", "/abandon?worker=0&request=1", 405),
        ("POST", "/ping", 405),
        ("GET", "/other", 404),
    ],
)
def test_whatever_the_parent_is_told_it_lives_on(host: Host, method: str, target: str, status: int) -> None:
    host.script(WHO)
    host.start()
    worker = pids(host)[0]
    assert ask(str(host.run / "host.sock"), method, target).status == status
    assert host.ping().status == 200
    assert pids(host)[0] == worker


def test_sigterm_lets_the_running_request_end_and_refuses_the_next(host: Host) -> None:
    host.script(WHO)
    host.start()
    client = host.frames()
    client.send(1, b"sleep 0.3", {"Content-Type": "text/csv"})
    client.send(2, b"who")
    other = host.frames()  # answered after the sleep: the worker is at it
    assert host.process is not None
    other.send(3, b"who")
    host.process.send_signal(signal.SIGTERM)
    kinds = [client.frame()[0], client.frame()[0]]
    assert kinds[0] == frames.RESPONSE
    assert host.process.wait(PATIENCE) == 0
    assert not list(host.run.glob("*.sock"))


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_ends_within_two_seconds_whatever_runs(host: Host, workers: int) -> None:
    host.script("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WHO)
    host.start(workers=workers)
    client = host.frames()
    client.send(1, b"sleep 60", {"Content-Type": "text/csv"})
    everyone = [*host.children(), *(pid for child in host.children() for pid in children_of(child))]
    started = Watch()
    assert host.stop() == 0
    assert started.free < 2
    assert not [pid for pid in everyone if alive(pid)]


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_outlives_the_parent(host: Host, workers: int) -> None:
    host.script(WHO)
    host.start(workers=workers)
    everyone = [*host.children(), *(pid for child in host.children() for pid in children_of(child))]
    assert len(everyone) == (1 if workers == 1 else 3)
    assert host.process is not None
    host.process.kill()
    host.process.wait()
    began = Watch()
    eventually(lambda: not any(alive(pid) for pid in everyone))
    assert began.free < 2


def test_a_worker_that_dies_again_and_again_is_not_restarted_in_a_spin(host: Host) -> None:
    loads = "    if os.path.exists('die'): os._exit(3)\n    return 1\n"
    host.script(WHO.replace("    return os.getpid()\n", loads, 1))
    host.start()
    (host.model / "die").touch()
    with pytest.raises(ConnectionError):
        host.invoke(b"die")
    eventually(lambda: "ended (status 3)" in host.output())
    assert host.ping().status == 503
    time.sleep(0.3)
    assert host.output().count("ended (status 3)") <= 3
    (host.model / "die").unlink()
    assert host.ping(wait=20).status == 200


def test_rights_are_given_up(host: Host) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has rights to give up")
    readable = [path for path in (sys.executable, "/usr/bin/python3") if others_can_read(path)]
    if not readable:
        pytest.skip("no Python here that another user may read")
    host.python = readable[0]
    host.script(
        "import os\ndef model_fn(d): return 1\n"
        "def transform_fn(*a):\n"
        "    status = open('/proc/self/status').read()\n"
        "    return repr((os.getresuid(), os.getresgid(), os.getgroups(), 'NoNewPrivs:\\t1' in status))\n"
    )
    host.folder.chmod(0o755)
    (host.model / "code" / "inference.py").chmod(0o644)
    host.start(uid=65534, gid=65534)
    assert host.invoke(b"").text == "((65534, 65534, 65534), (65534, 65534, 65534), [], True)"
    assert host.stop() == 0


def test_how_many_workers_and_threads() -> None:
    run = {"run_dir": "/r"}
    assert Config({**run, "workers": 3, "cpus": 8}, {"SAGEMAKER_MODEL_SERVER_WORKERS": "5"}).workers == 3
    assert Config({**run, "cpus": 8}, {"SAGEMAKER_MODEL_SERVER_WORKERS": "5"}).workers == 5
    assert Config({**run, "cpus": 8}, {"SAGEMAKER_MODEL_SERVER_WORKERS": "many"}).workers == 8
    assert Config(run, {}).workers >= 1
    environment = {"MKL_NUM_THREADS": "9"}
    prepare_environment(Config({**run, "workers": 2, "cpus": 8, "model_dir": "/data/m/model"}, environment), environment)
    assert environment == {
        "MKL_NUM_THREADS": "9",
        "OMP_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
        "TF_NUM_INTRAOP_THREADS": "4",
        "SM_MODEL_DIR": "/data/m/model",
        "SAGEMAKER_BASE_DIR": "/data/m",
    }


def test_a_stale_failure_and_stale_sockets_are_cleared(host: Host) -> None:
    host.script(WHO)
    (host.run / "failure.json").write_text(json.dumps({"kind": "old"}))
    (host.run / "w0.sock").touch()
    host.start()
    assert not (host.run / "failure.json").exists()
    assert Path(host.worker()).is_socket()
