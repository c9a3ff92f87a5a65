"""Folders registered as images: deployed and called through boto3, in their sandbox, with nothing but `serve` in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import temporary
from tests.deadlines import LONG, PATIENCE
from tests.e2e.deployments import Deployments, archive, until

SERVER = """\
#!/usr/bin/env python3
import http.server, json, os, signal, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer(200, b"")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"fail": return self.answer(418, b"I will not")
        if body == b"die": os._exit(9)
        if body == b"tell": body = json.dumps(TOLD).encode()
        if body == b"headers": body = json.dumps(dict(self.headers)).encode()
        self.answer(200, body)
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/x-own")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
def model():
    try: return open("/opt/ml/model/weights.txt").read()
    except OSError: return None
TOLD = {"arguments": sys.argv[1:], "folder": os.getcwd(), "model": model(), "name": os.environ.get("NAME"),
        "image": os.environ.get("FROM_IMAGE"), "port": os.environ["SAGEMAKER_BIND_TO_PORT"], "uid": os.getuid()}
def end(*_):
    print("got SIGTERM", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("serving", flush=True)
port = os.environ["SAGEMAKER_BIND_TO_PORT"] if TOLD["image"] == "any port" else 8080
http.server.ThreadingHTTPServer(("0.0.0.0", int(port)), Handler).serve_forever()
"""
DOCKERFILE = """\
FROM python:3.11
RUN touch /tmp/slipway-must-not-run-this
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \\
      maintainer="somebody"
ENV FROM_IMAGE="any port" OTHER=${PATH}
WORKDIR /srv/app
ENTRYPOINT ["python3", "/srv/app/main.py"]
"""
CLASSIC = {
    "serve": """\
        #!/usr/bin/env python
        # As in AWS's example: nginx and gunicorn, and the end of either is the end of the container.
        import multiprocessing, os, signal, subprocess, sys
        timeout = os.environ.get("MODEL_SERVER_TIMEOUT", 60)
        workers = int(os.environ.get("MODEL_SERVER_WORKERS", multiprocessing.cpu_count()))
        def stop(nginx, gunicorn):
            for pid, number in ((nginx, signal.SIGQUIT), (gunicorn, signal.SIGTERM)):
                try: os.kill(pid, number)
                except OSError: pass
            sys.exit(0)
        subprocess.check_call(["ln", "-sf", "/dev/stdout", "/var/log/nginx/access.log"])
        subprocess.check_call(["ln", "-sf", "/dev/stderr", "/var/log/nginx/error.log"])
        nginx = subprocess.Popen(["nginx", "-c", "/opt/program/nginx.conf"])
        gunicorn = subprocess.Popen(["gunicorn", "--timeout", str(timeout), "-k", "sync", "-b", "unix:/tmp/gunicorn.sock",
                                     "-w", str(workers), "wsgi:app"])
        signal.signal(signal.SIGTERM, lambda a, b: stop(nginx.pid, gunicorn.pid))
        while True:
            pid, _ = os.wait()
            if pid in (nginx.pid, gunicorn.pid): break
        stop(nginx.pid, gunicorn.pid)
        """,
    "nginx.conf": """\
        worker_processes 1;
        daemon off;
        pid /tmp/nginx.pid;
        error_log /var/log/nginx/error.log;
        events { }
        http {
          include /etc/nginx/mime.types;
          default_type application/octet-stream;
          access_log /var/log/nginx/access.log combined;
          upstream gunicorn { server unix:/tmp/gunicorn.sock; }
          server {
            listen 8080 deferred;
            client_max_body_size 5m;
            keepalive_timeout 5;
            location ~ ^/(ping|invocations) {
              proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
              proxy_set_header Host $http_host;
              proxy_redirect off;
              proxy_pass http://gunicorn;
            }
            location / { return 404 "{}"; }
          }
        }
        """,
    "wsgi.py": "import predictor as myapp\napp = myapp.app\n",
    "predictor.py": """\
        import os
        import flask
        app = flask.Flask(__name__)
        with open(os.path.join("/opt/ml", "model", "weights.txt")) as file:
            factor = float(file.read())
        @app.route("/ping", methods=["GET"])
        def ping():
            return flask.Response(response="\\n", status=200, mimetype="application/json")
        @app.route("/invocations", methods=["POST"])
        def transformation():
            if flask.request.content_type != "text/csv":
                return flask.Response(response="This predictor only supports CSV data", status=415, mimetype="text/plain")
            rows = flask.request.data.decode().split()
            answer = "".join(f"{factor * float(row)}\\n" for row in rows)
            return flask.Response(response=answer, status=200, mimetype="text/csv")
        """,
}


class Own(Deployments):
    """A slipway with a cache folder of its own, so that its images are."""

    cache: Path

    def images(self, *arguments: str, ok: bool = True) -> str:
        """`slipway images …` for this cache; its output."""
        command = [sys.executable, "-m", "slipway.cli.main", "images", "--cache-dir", str(self.cache), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout if ok else done.stderr


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    cache = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    if "UV_CACHE_DIR" not in os.environ:
        patch.setenv("UV_CACHE_DIR", str(Path.home() / ".cache/slipway/uv"))
    try:
        with temporary(["--cache-dir", str(cache)]) as launched:
            made = Own(launched)
            made.cache = cache
            yield made
    finally:
        patch.undo()


def folder(path: Path, files: dict[str, str]) -> Path:
    """A folder that every user may read, with an executable `serve` if there is one."""
    path.mkdir()
    path.chmod(0o755)
    for name, text in files.items():
        (path / name).write_text(textwrap.dedent(text))
    if "serve" in files:
        (path / "serve").chmod(0o755)
    return path


def told(own: Own, name: str) -> dict:
    return dict(json.loads(own.invoke(name, b"tell")))


def test_a_folder_with_serve(own: Own, tmp_path: Path) -> None:
    """`serve` alone: no argument, as Docker starts it without an ENTRYPOINT; port 8080 is its own; ECR's URI means it too."""
    own.images("add", "echo", str(folder(tmp_path / "echo", {"serve": SERVER})))
    assert "echo" in own.images("list")
    assert "its own, on port 8080" in own.images("show", "echo:anything")
    weights = archive({"weights.txt": "three"})
    for name, image in (("one", "echo"), ("two", "123456789012.dkr.ecr.us-east-1.amazonaws.com/echo:latest")):
        own.deploy(name, weights, image=image, environment={"NAME": name})
    assert [told(own, name)["name"] for name in ("one", "two")] == ["one", "two"]
    one = told(own, "one")
    assert (one["arguments"], one["folder"], one["model"], one["port"]) == ([], "/opt/program", "three", "8080")
    assert one["uid"] != 0 or os.geteuid() != 0
    answer = own.runtime.invoke_endpoint(EndpointName="one", Body=b"x" * 3_000_000, ContentType="application/x", Accept="b/c")
    assert (answer["ContentType"], len(answer["Body"].read())) == ("text/x-own", 3_000_000)
    headers = {name.lower(): value for name, value in json.loads(own.invoke("one", b"headers", Accept="b/c")).items()}
    assert (headers["content-type"], headers["accept"]) == ("application/json", "b/c")
    assert not any("authorization" in name or name.startswith("x-amz-") for name in headers)
    log = own.log("one")
    assert "serving" in log
    assert "a network of its own, without a way out" in log
    own.delete("one")
    until(lambda: "got SIGTERM" in own.log("one"), what="SIGTERM at the server")
    own.gone("one")
    own.delete("two")


def test_a_transform_job_asks_it_for_its_parameters(own: Own, tmp_path: Path) -> None:
    parameters = '{"MaxConcurrentTransforms": 3, "MaxPayloadInMB": 2, "BatchStrategy": "SINGLE_RECORD"}'
    asked = f"if self.path == '/execution-parameters': return self.answer(200, {parameters.encode()!r})"
    serve = SERVER.replace('self.answer(200, b"")', f'{asked}\n        self.answer(200, b"")', 1)
    own.images("add", "batch", str(folder(tmp_path / "batch", {"serve": serve})))
    own.model("batch", archive({"weights.txt": "three"}), image="batch", environment={"NAME": "batch"})
    own.s3.put_object(Bucket="models", Key="batch-in/a", Body=b"1\n2\nfail\n"[:4])
    own.s3.put_object(Bucket="models", Key="batch-in/b", Body=b"3\nfail\n")
    own.sagemaker.create_transform_job(
        TransformJobName="batch",
        ModelName="batch",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://models/batch-in/"}},
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": "s3://models/batch-out", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )

    def ended() -> bool:
        return bool(own.sagemaker.describe_transform_job(TransformJobName="batch")["TransformJobStatus"] != "InProgress")

    until(ended, what="the job")
    told = own.sagemaker.describe_transform_job(TransformJobName="batch")
    assert "b: ClientError: 418, at record 1 (byte 2)" in told["FailureReason"]
    assert own.s3.get_object(Bucket="models", Key="batch-out/a.out")["Body"].read() == b"1\n2\n"

    def log() -> str:
        found = own.logs.filter_log_events(logGroupName="/aws/sagemaker/TransformJobs")["events"]
        return "\n".join(event["message"] for event in found)

    until(lambda: "I will not" in log(), what="the model's words")
    assert "MaxConcurrentTransforms=3, MaxPayloadInMB=2, BatchStrategy=SINGLE_RECORD" in log()


def test_its_errors_and_its_death(own: Own, tmp_path: Path) -> None:
    own.images("add", "mortal", str(folder(tmp_path / "mortal", {"serve": SERVER})))
    own.deploy("mortal", None, image="mortal")
    with pytest.raises(ClientError) as caught:
        own.invoke("mortal", b"fail")
    assert caught.value.response["OriginalStatusCode"] == 418
    assert caught.value.response["OriginalMessage"] == "I will not"
    with pytest.raises(ClientError) as caught:
        own.invoke("mortal", b"die")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    deadline = time.monotonic() + PATIENCE
    while True:  # another replica takes its place
        try:
            assert own.invoke("mortal", b"back") == b"back"
            break
        except ClientError:
            assert time.monotonic() < deadline
    own.delete("mortal")


def test_a_dockerfile(own: Own, tmp_path: Path) -> None:
    """LABEL, ENV, ENTRYPOINT and WORKDIR count; RUN does not run. With the label it shares the machine's network."""
    made = folder(tmp_path / "docker", {"main.py": SERVER, "Dockerfile": DOCKERFILE})
    shown = own.images("add", "dockered:v1", str(made))
    assert "seen as /srv/app" in shown
    assert "the machine's" in shown
    own.deploy("dockered", None, image="dockered:v1")
    here = told(own, "dockered")
    assert (here["arguments"], here["folder"], here["image"]) == (["serve"], "/srv/app", "any port")
    assert here["port"] != "8080"
    assert not Path("/tmp/slipway-must-not-run-this").exists()
    own.delete("dockered")
    assert "removed dockered:v1" in own.images("remove", "dockered:v1")
    assert "no folder is registered as dockered:v1" in own.images("remove", "dockered:v1", ok=False)
    reason = own.fail("unregistered", None, image="dockered:v1")
    assert "slipway images add dockered DIR" in reason


def test_isolated(own: Own, tmp_path: Path) -> None:
    """Network isolation holds also for an image that otherwise shares the machine's network."""
    server = SERVER.replace('TOLD["image"] == "any port"', "True")
    own.images("add", "isolated", "--bind-to-port", str(folder(tmp_path / "isolated", {"serve": server})))
    own.deploy("isolated", None, image="isolated", EnableNetworkIsolation=True)
    assert told(own, "isolated")["port"] == "8080"
    own.delete("isolated")


@pytest.mark.parametrize(
    ("name", "first", "mode", "words"),
    [
        ("not-executable", "#!/usr/bin/env python3\n", 0o644, "chmod a+rx serve"),
        ("wrong-shebang", "#!/usr/bin/python2.2\n", 0o755, "/usr/bin/python2.2 is not there"),
        ("no-python", "#!/usr/bin/env python2.2\n", 0o755, "--python 3.11"),
        ("windows", "#!/bin/sh\r\n", 0o755, "Windows line ends"),
        ("no-shebang", "import os\n", 0o755, "has no `#!` line"),
    ],
)
def test_refused_when_registered(own: Own, tmp_path: Path, name: str, first: str, mode: int, words: str) -> None:
    made = folder(tmp_path / name, {})
    (made / "serve").write_bytes(first.encode())
    (made / "serve").chmod(mode)
    assert words in own.images("add", name, str(made), ok=False)
    assert name not in own.images("list")


def test_refused_when_started(own: Own, tmp_path: Path) -> None:
    """What has changed since it was registered is said in FailureReason."""
    made = folder(tmp_path / "changes", {"serve": SERVER})
    own.images("add", "changes", str(made))
    (made / "serve").chmod(0o644)
    assert "chmod a+rx serve" in own.fail("changed", None, image="changes")
    (made / "serve").chmod(0o755)
    (made / "serve").write_text("#!/bin/sh\necho cannot go on >&2\nexit 3\n")
    reason = own.fail("changed-again", None, image="changes")
    assert "exit code 3" in reason
    assert "cannot go on" in reason
    shutil.rmtree(made)
    assert "is not there any more" in own.fail("gone-folder", None, image="changes")


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed (apt-get install nginx-light)")
def test_the_classic_layout(own: Own, tmp_path: Path) -> None:
    """serve, nginx.conf, wsgi.py, predictor.py with nginx, gunicorn and flask: unchanged, in a Python of its own."""
    (tmp_path / "requirements.txt").write_text("flask\ngunicorn\n")
    made = folder(tmp_path / "classic", CLASSIC)
    own.images("add", "classic", str(made), "--python", "3.11", "--requirements", str(tmp_path / "requirements.txt"))
    own.deploy("classic", archive({"weights.txt": "3"}), image="classic", environment={"MODEL_SERVER_WORKERS": "1"})
    assert own.invoke("classic", b"1\n2\n", ContentType="text/csv") == b"3.0\n6.0\n"
    with pytest.raises(ClientError) as caught:
        own.invoke("classic", b"{}")
    assert caught.value.response["OriginalStatusCode"] == 415
    until(lambda: "POST /invocations" in own.log("classic"), what="nginx's access log in the endpoint's log")
    own.delete("classic")
    own.gone("classic")


@pytest.mark.heavy
def test_several_in_one_instance(own: Own, tmp_path: Path) -> None:
    """Two with a port 8080 of their own, one on the port that it is given: a pipeline, and one called by its name."""
    own.images("add", "beside", str(folder(tmp_path / "beside", {"serve": SERVER})))
    own.images("add", "bound", str(folder(tmp_path / "bound", {"main.py": SERVER, "Dockerfile": DOCKERFILE})))
    weights = archive({"weights.txt": "three"})
    parts = [
        {"data": weights, "hostname": name, "Image": image, "Environment": {"NAME": name}}
        for name, image in (("one", "beside"), ("two", "bound"), ("three", "beside"))
    ]
    for mode in ("Serial", "Direct"):
        own.several(mode, parts, mode)
        own.config(mode)
        own.sagemaker.create_endpoint(EndpointName=mode, EndpointConfigName=mode)
    for mode in ("Serial", "Direct"):
        own.settle(mode, "InService")
    assert own.invoke("Serial", b"x" * 300_000) == b"x" * 300_000
    tellings = {}
    for name in ("one", "two", "three"):
        answer = own.runtime.invoke_endpoint(EndpointName="Direct", Body=b"tell", TargetContainerHostname=name)
        tellings[name] = json.loads(answer["Body"].read())
    assert {name: each["name"] for name, each in tellings.items()} == {name: name for name in tellings}
    assert [tellings[name]["port"] for name in ("one", "three")] == ["8080", "8080"]
    assert 10_000 <= int(tellings["two"]["port"]) < 32_000
    with pytest.raises(ClientError, match="from one with message"):
        own.invoke("Serial", b"fail")
    assert "lacks the label com.amazonaws.sagemaker.capabilities.accept-bind-to-port" in own.log("Serial")
    with pytest.raises(ClientError, match="from one with message"):
        own.invoke("Serial", b"die")
    until(lambda: _answers(own, "Serial"), what="the pipeline with a new instance")
    for mode in ("Serial", "Direct"):
        own.delete(mode)


def _answers(own: Own, name: str) -> bool:
    try:
        return own.invoke(name, b"y") == b"y"
    except ClientError:
        return False
