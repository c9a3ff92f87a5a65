"""Multi-model containers that are not ours, in pipelines, and while processes are killed."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from tests.e2e.deployments import BUCKET, ROLE, SCRIPT_MODE, SKLEARN, Deployments, archive, script, until
from tests.e2e.test_multi_model import Fleet, packed

FOREIGN = """\
#!/usr/bin/env python3
import http.server, json, os, threading
LOADED, LOCK = {}, threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def body(self): return self.rfile.read(int(self.headers.get("Content-Length") or 0))
    def do_GET(self):
        if self.path == "/ping": return self.answer(200, b"")
        if self.path.startswith("/models/"):
            name = self.path.split("/")[2]
            return self.answer(200 if name in LOADED else 404, b"{}")
        names = sorted(LOADED)
        at = int((self.path.partition("next_page_token=")[2] or "0"))
        page = {"models": [{"modelName": n, "modelUrl": LOADED[n][0]} for n in names[at:at + 1]]}
        if at + 1 < len(names): page["nextPageToken"] = str(at + 1)
        self.answer(200, json.dumps(page).encode())
    def do_POST(self):
        body = self.body()
        if self.path == "/models":
            asked = json.loads(body)
            with LOCK:
                if asked["model_name"] in LOADED: return self.answer(409, b"loaded already")
                if len(LOADED) >= 2: return self.answer(507, b"no room")
                try: words = open(asked["url"] + "/words.txt").read()
                except OSError as error: return self.answer(500, str(error).encode())
                LOADED[asked["model_name"]] = (asked["url"], words)
            return self.answer(200, b"")
        name = self.path.split("/")[2]
        if name not in LOADED: return self.answer(404, b"not loaded")
        target = self.headers["X-Amzn-SageMaker-Target-Model"]
        self.answer(200, (LOADED[name][1] + " " + target + " ").encode() + body)
    def do_DELETE(self):
        with LOCK: gone = LOADED.pop(self.path.split("/")[2], None)
        self.answer(200 if gone else 404, b"")
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
BEFORE = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept): return "before(" + data + ")", "text/plain"
"""
AFTER = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept): return "after(" + bytes(data).decode() + ")", "text/plain"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    with temporary(("--model-load-limit", "20", "--model-wait-limit", "20")) as launched:
        yield Deployments(launched)


def test_a_container_that_keeps_to_the_contract(server: Deployments, tmp_path: Path) -> None:
    """Room for two: 507, the least recently used goes, the load is repeated; 409 counts as loaded; pages."""
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "serve").write_text(FOREIGN)
    (folder / "serve").chmod(0o755)
    command = [sys.executable, "-m", "slipway.cli.main", "images", "add", "manymodels", str(folder)]
    environment = {**os.environ, "SLIPWAY_DATA_DIR": str(server.launched.data_dir)}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    container = {"Image": "manymodels", "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/foreign/"}
    server.sagemaker.create_model(ModelName="foreign", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    server.config("foreign")
    server.sagemaker.create_endpoint(EndpointName="foreign", EndpointConfigName="foreign")
    server.settle("foreign", "InService")
    for name in ("a", "b", "c"):
        server.s3.put_object(Bucket=BUCKET, Key=f"foreign/{name}.tar.gz", Body=archive({"words.txt": f"I am {name}"}))
    server.s3.put_object(Bucket=BUCKET, Key="foreign/empty.tar.gz", Body=archive({"other.txt": "x"}))

    def ask(name: str) -> str:
        return server.invoke("foreign", "?", TargetModel=f"{name}.tar.gz", ContentType="text/plain").decode()

    for name in ("a", "b", "a", "c", "a", "b"):
        assert ask(name) == f"I am {name} {name}.tar.gz ?"
    with pytest.raises(ClientError, match="No such file"):
        ask("empty")
    assert ask("a") == "I am a a.tar.gz ?"


def test_a_pipeline_hands_the_target_to_its_multi_model_container_alone(server: Deployments) -> None:
    for name in ("one", "two"):
        server.s3.put_object(Bucket=BUCKET, Key=f"middle/{name}.tar.gz", Body=packed(name))
    for name, text in (("before", BEFORE), ("after", AFTER)):
        server.s3.put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=script(text))

    def container(name: str) -> dict[str, Any]:
        url = f"s3://{BUCKET}/{name}/model.tar.gz"
        return {"Image": SKLEARN, "ModelDataUrl": url, "Environment": SCRIPT_MODE, "ContainerHostname": name}

    many = {"Image": SKLEARN, "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/middle/", "Environment": SCRIPT_MODE}
    containers = [container("before"), {**many, "ContainerHostname": "many"}, container("after")]
    server.sagemaker.create_model(ModelName="chosen", ExecutionRoleArn=ROLE, Containers=containers)
    server.config("chosen")
    server.sagemaker.create_endpoint(EndpointName="chosen", EndpointConfigName="chosen")
    server.settle("chosen", "InService")

    def ask(target: str) -> str:
        return server.invoke("chosen", "x", TargetModel=target, ContentType="text/csv").decode()

    assert ask("one.tar.gz") == "after(one:before(x))"
    assert ask("two.tar.gz") == "after(two:before(x))"
    with pytest.raises(ClientError, match="missing a target model header"):
        server.invoke("chosen", "x", ContentType="text/csv")
    with pytest.raises(ClientError, match="Failed to download model data"):
        ask("three.tar.gz")


def test_two_instances_share_the_models_and_a_hot_one_is_in_both(server: Deployments) -> None:
    """A model is asked of the instance that has it; only when requests crowd before it the other one loads it too."""
    files = {f"m{number}.tar.gz": packed(f"m{number}") for number in range(16)}
    fleet = Fleet(server, "pair", instances=2, files=files)

    def uses(target: str) -> list[int]:
        """Of a model, for each instance that has it."""
        return [row["uses"] for each in fleet.models()["replicas"] for row in each["models"] if row["target"] == target]

    for target in [*files, *list(files)[:4]]:
        assert fleet.ask(target) == f"{target.partition('.')[0]}:x"
    assert [uses(target) for target in files] == [[2]] * 4 + [[1]] * 12
    have = [len(each["models"]) for each in fleet.models()["replicas"]]
    assert (len(have), sum(have)) == (2, 16)
    assert all(have)  # the one or the other gets all of them once in 30,000 times
    ended = threading.Event()

    def keep_asking() -> int:
        count = 0
        while not ended.is_set():
            assert fleet.ask("m9.tar.gz", "hold") == "m9:hold"
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(keep_asking) for _ in range(8)]
        try:
            until(lambda: len(uses("m9.tar.gz")) == 2 and min(uses("m9.tar.gz")) > 0, what="the hot model to answer in both")
        finally:
            ended.set()
        asked = sum(each.result() for each in asking)
    assert sum(uses("m9.tar.gz")) == 1 + asked
    assert all(len(uses(target)) == 1 for target in files if target != "m9.tar.gz")


ALLOWED = {"ModelNotReadyException", "ServiceUnavailable", "ModelError"}


@pytest.mark.heavy
def test_killed_replicas_gateways_and_controls_cost_documented_errors_alone(server: Deployments) -> None:
    fleet = Fleet(server, "killed")
    for number in range(12):
        fleet.put(f"m{number}.tar.gz", packed(f"m{number}", slow=0.1))
    wrong: list[str] = []
    good = [0]
    ended = threading.Event()

    def ask(worker: int) -> None:
        number = worker
        while not ended.is_set():
            number = (number * 7 + 3) % 12
            try:
                answer = fleet.ask(f"m{number}.tar.gz")
                good[0] += 1
                if answer != f"m{number}:x":
                    wrong.append(answer)
            except ClientError as error:
                if error.response["Error"]["Code"] not in ALLOWED:
                    wrong.append(str(error))
            except Exception as error:  # noqa: BLE001  a connection that the killed gateway had
                if "closed" not in str(error).lower() and "connect" not in str(error).lower():
                    wrong.append(repr(error))
                time.sleep(0.05)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, worker) for worker in range(3)]
        try:
            for word in ("slipway.roles.control", "slipway_host", "slipway.roles.gateway"):
                until(lambda: good[0] > 5, what="answers")
                for process in server.processes(word)[-1:]:
                    os.kill(process.pid, signal.SIGKILL)
                good[0] = 0
                until(lambda: good[0] > 5, what=f"answers after {word}")
        finally:
            ended.set()
    for each in asking:
        each.result()
    assert not wrong, wrong[:3]
