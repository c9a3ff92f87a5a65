"""Model code that attacks (users.md 4.4, S6): each attempt is a real process in a real replica, and each is contained.

The hostile model runs whatever Python it is sent, so an attempt is a few lines of code and what it must not bring back.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import textwrap
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from slipway.cli import launch
from slipway.cli.launch import temporary
from tests.deadlines import Watch
from tests.e2e.deployments import IDENTITY, SCRIPT_MODE, Deployments, archive, script, until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="these run against the sandbox that root gets: a user for each replica"),
]

HOSTILE = """
import json
def model_fn(model_dir):
    return None
def transform_fn(model, data, content_type, accept):
    names = {"__name__": "attempt"}
    try:
        exec(data if isinstance(data, str) else bytes(data).decode(), names)
        told = names.get("told")
    except BaseException as error:
        told = {"raised": type(error).__name__, "errno": getattr(error, "errno", None), "text": str(error)}
    return json.dumps(told), "application/json"
"""
SECRET = "the-victims-secret-d41d8cd98f"
MEMORY = 768


@pytest.fixture(scope="module")
def server() -> Iterator[Deployments]:
    """One slipway with a hostile model, the same one isolated, and a victim that holds a secret."""
    with temporary(["--replica-memory", f"{MEMORY}MiB", "--sandbox", "required"]) as launched:
        made = Deployments(launched)
        made.start("hostile", script(HOSTILE))
        made.start("isolated", script(HOSTILE), EnableNetworkIsolation=True)
        victim = archive({"code/inference.py": IDENTITY, "weights.txt": SECRET})
        made.start("victim", victim, environment={**SCRIPT_MODE, "DATABASE_PASSWORD": SECRET})
        for name in ("hostile", "isolated", "victim"):
            made.settle(name, "InService")
        yield made


def attempt(server: Deployments, code: str, name: str = "hostile") -> Any:
    """What the code left in `told`, or what it raised."""
    return json.loads(server.invoke(name, textwrap.dedent(code), ContentType="text/plain"))


def run_dir(server: Deployments) -> Path:
    return Path(json.loads((server.launched.data_dir / "up.json").read_text())["run_dir"])


def replica_of(server: Deployments, endpoint: str) -> Path:
    """The run folder of the endpoint's only replica."""
    streams = server.logs.describe_log_streams(logGroupName=f"/aws/sagemaker/Endpoints/{endpoint}")["logStreams"]
    ids = [stream["logStreamName"].rpartition("/")[2] for stream in streams]
    (found,) = [path for path in (run_dir(server) / "r").iterdir() if path.name in ids]
    return found


def test_reading_the_data_directory(server: Deployments) -> None:
    data = server.launched.data_dir
    wanted = [data, data / "slipway.db", data / "credentials.json", data / "artifacts", data / "objects", data / "logs"]
    assert (data / "credentials.json").exists()
    told = attempt(
        server,
        f"""
        import os
        told = {{}}
        for path in {[str(path) for path in wanted]!r}:
            try:
                told[path] = os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(16).hex()
            except OSError as error:
                told[path] = None
        """,
    )
    assert told == dict.fromkeys(map(str, wanted))


def test_finding_the_secret_of_another_model_anywhere(server: Deployments) -> None:
    """Every file that can be read, every environment and every command line."""
    told = attempt(
        server,
        f"""
        import os, sys
        secret, told = {SECRET!r}[::-1].encode()[::-1], []
        for top in ("/proc", "/tmp", "/opt", "/etc", "/var", "/dev", "/home", "/root", "/srv", "/mnt", "/run"):
            for folder, folders, files in os.walk(top):
                if folder.startswith(("/proc/sys", "/proc/self/", "/proc/thread-self", sys.prefix, sys.base_prefix)):
                    folders.clear()
                    continue
                for name in files:
                    path = os.path.join(folder, name)
                    try:
                        if not os.path.isfile(path) or name in ("kmsg", "kpagecount", "kpageflags", "mem", "kcore", "pagemap"):
                            continue
                        with open(path, "rb") as file:
                            if secret in file.read(1 << 20):
                                told.append(path)
                    except OSError:
                        pass
        """,
    )
    assert [path for path in told if "cmdline" not in path] == []


def test_other_processes_are_not_there(server: Deployments) -> None:
    told = attempt(
        server,
        """
        import os
        told = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            told[pid] = open(f"/proc/{pid}/cmdline", "rb").read().replace(b"\\0", b" ").decode()
        """,
    )
    assert told["1"].startswith("/usr/bin/bwrap") or "bwrap" in told["1"]
    assert all("slipway_host" in line for line in told.values()), told
    assert not any("slipway.cli" in line or "slipway.roles" in line for line in told.values())
    assert len(told) < 10


def test_its_own_user_is_nobody_else(server: Deployments) -> None:
    told = attempt(
        server,
        """
        import os
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        told = {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
                "caps": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")],
                "no_new_privs": int(status["NoNewPrivs"])}
        """,
    )
    assert told["uid"][0] >= 200_000
    assert len(set(told["uid"])) == len(set(told["gid"])) == 1
    assert told["groups"] == []
    assert told["caps"] == [0] * 5
    assert told["no_new_privs"] == 1
    assert attempt(server, "import os; told = os.getuid()", "isolated") != told["uid"][0]


@pytest.mark.parametrize(
    "path",
    [
        "/x",
        "/usr/x",
        "/etc/x",
        "/etc/passwd",
        "/opt/x",
        "/opt/ml/x",
        "/opt/ml/model/x",
        "/opt/ml/model/code/inference.py",
        "/var/x",
    ],
)
def test_writing_outside(server: Deployments, path: str) -> None:
    told = attempt(server, f"open({path!r}, 'ab').write(b'x')")
    assert told["raised"] in ("PermissionError", "OSError", "FileNotFoundError")


def test_writing_into_what_is_shared_with_other_replicas(server: Deployments) -> None:
    """The environment, the host's code, the interpreter."""
    told = attempt(
        server,
        """
        import os, sys
        import slipway_host, sklearn
        told = {}
        for folder in (os.path.dirname(slipway_host.__file__), os.path.dirname(sklearn.__file__), sys.prefix, sys.base_prefix):
            for path in (folder + "/planted.py", folder + "/__init__.py"):
                try:
                    open(path, "ab").close()
                    told[path] = "written"
                except OSError:
                    pass
        """,
    )
    assert told == {}


def test_connecting_to_the_sockets_of_slipway(server: Deployments) -> None:
    run = run_dir(server)
    sockets = [str(run / name) for name in ("control.sock", "keeper.sock", "link.sock")]
    sockets += [str(path) for path in (run / "r").glob("*/*.sock") if path.parent != replica_of(server, "hostile")]
    assert len(sockets) > 5
    told = attempt(
        server,
        f"""
        import socket
        told = []
        for path in {sockets!r}:
            with socket.socket(socket.AF_UNIX) as sock:
                try:
                    sock.connect(path)
                    told.append(path)
                except OSError:
                    pass
        """,
    )
    assert told == []


def test_its_own_sockets_cannot_be_replaced_by_links_to_others(server: Deployments) -> None:
    """Else requests for this endpoint would be sent wherever the model likes, with the gateway's rights."""
    own = replica_of(server, "hostile")
    before = {path.name: path.lstat().st_ino for path in own.glob("*.sock")}
    told = attempt(
        server,
        f"""
        import os
        told = []
        for name in {sorted(before)!r}:
            path = os.path.join({str(own)!r}, name)
            for act in (lambda: os.unlink(path), lambda: os.rename(path, path + ".old"),
                        lambda: os.symlink({str(run_dir(server) / "control.sock")!r}, path + ".link")):
                try:
                    act()
                    told.append(path)
                except OSError:
                    pass
        """,
    )
    assert told == []
    assert {path.name: path.lstat().st_ino for path in own.glob("*.sock")} == before
    assert all(stat.S_ISSOCK((own / name).lstat().st_mode) for name in before)


def test_filling_the_disk_through_its_run_folder(server: Deployments) -> None:
    own = replica_of(server, "hostile")
    told = attempt(
        server,
        f"""
        with open({str(own)!r} + "/filler", "wb") as file:
            for _ in range(64):
                file.write(bytes(1 << 20))
        told = "filled"
        """,
    )
    assert told != "filled"


def test_killing_and_tracing_others(server: Deployments) -> None:
    before = {p.pid for p in server.processes("slipway")}
    outside = [server.launched.process.pid, *sorted(before)[:20]]
    told = attempt(
        server,
        f"""
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        inside = set(map(int, filter(str.isdigit, os.listdir("/proc"))))
        told = []
        for pid in set({outside!r}) - inside | {{1}}:
            try:
                os.kill(pid, 9)
                if pid != 1:  # the kernel takes signals for a namespace's init and drops them
                    told.append(["kill", pid])
            except OSError:
                pass
            if libc.ptrace(16, pid, None, None) == 0:
                told.append(["ptrace", pid])
        """,
    )
    assert told == []
    assert {p.pid for p in server.processes("slipway")} >= before


def test_killing_everything_it_may_ends_only_itself(server: Deployments) -> None:
    victim = {p.pid for p in server.processes(str(replica_of(server, "victim")))}
    with pytest.raises(ClientError) as caught:
        attempt(server, "import os; os.kill(-1, 9); os.kill(os.getpid(), 9)")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert server.invoke("victim", b"still here") == b"still here"
    assert {p.pid for p in server.processes(str(replica_of(server, "victim")))} == victim
    until(lambda: _answers(server), what="the hostile model's own return")


def test_reaching_for_privileges(server: Deployments) -> None:
    told = attempt(
        server,
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        told = []
        def tried(name, result):
            if result == 0:
                told.append(name)
        tried("mount", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
        tried("chroot", libc.chroot(b"/tmp"))
        tried("setuid", libc.setuid(0))
        tried("setns", libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0) if os.access("/proc/1/ns/mnt", os.R_OK) else -1)
        tried("mknod", libc.mknod(b"/tmp/disk", 0o60666, 0x0800))
        tried("sethostname", libc.sethostname(b"x", 1))
        for path in ("/dev/mem", "/dev/kmsg", "/dev/sda", "/proc/kcore", "/proc/sysrq-trigger"):
            try:
                os.close(os.open(path, os.O_RDWR))
                told.append(path)
            except OSError:
                pass
        """,
    )
    assert told == []


def test_the_credentials_of_another_replica(server: Deployments) -> None:
    told = attempt(
        server,
        f"""
        import os, urllib.error, urllib.request
        own = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        other = own.rpartition("/")[0] + "/" + {replica_of(server, "victim").name!r}
        told = []
        for url, token in ((own, "wrong"), (own, ""), (other, os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"])):
            try:
                urllib.request.urlopen(urllib.request.Request(url, headers={{"Authorization": token}})).read()
                told.append("given")
            except urllib.error.HTTPError as error:
                told.append(error.code)
        """,
    )
    assert all(code in (401, 403, 404) for code in told), told


def test_its_credentials_do_not_reach_the_control_plane(server: Deployments) -> None:
    told = attempt(
        server,
        """
        import boto3
        told = []
        calls = [("sagemaker", "list_endpoints", {}), ("sagemaker", "delete_endpoint", {"EndpointName": "victim"}),
                 ("iam", "list_roles", {}), ("sts", "assume_role", {"RoleArn": "arn:aws:iam::123456789012:role/x",
                  "RoleSessionName": "more"})]
        for service, operation, arguments in calls:
            try:
                getattr(boto3.client(service), operation)(**arguments)
                told.append(operation)
            except Exception:
                pass
        """,
    )
    assert told == []
    assert server.status("victim") == "InService"


def test_slipways_own_routes(server: Deployments) -> None:
    """Signed with all that a model has, and not signed at all."""
    told = attempt(
        server,
        """
        import os, urllib.error, urllib.request
        import boto3
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        told = []
        for method, path in (("GET", "/_slipway/status"), ("POST", "/_slipway/status"), ("GET", "/_slipway/images")):
            url = os.environ["AWS_ENDPOINT_URL"] + path
            for scope in ("slipway", "s3", "sagemaker", None):
                request = AWSRequest(method, url, data=b"")
                if scope:
                    SigV4Auth(boto3.Session().get_credentials(), scope, "us-east-1").add_auth(request)
                try:
                    urllib.request.urlopen(urllib.request.Request(url, method=method, headers=dict(request.headers))).read()
                    told.append([method, path, scope])
                except urllib.error.HTTPError as error:
                    if error.code not in (400, 401, 403, 404, 405):
                        told.append([method, path, scope, error.code])
        """,
    )
    assert told == []


def test_flooding_the_log(server: Deployments) -> None:
    """What it prints is bounded on the disk, and costs the others no time."""
    logs = server.launched.data_dir / "logs"
    attempt(
        server,
        """
        import os
        if os.fork() == 0:
            line = b"x" * 8191 + bytes([10])
            for _ in range(60_000):
                os.write(1, line * 2)
            os._exit(0)
        told = 1
        """,
    )
    for _ in range(10):
        began = Watch()
        assert server.invoke("victim", b"x") == b"x"
        assert server.status("victim") == "InService"
        assert began.free < 2
    written = sum(path.stat().st_size for path in logs.rglob("*") if path.is_file())
    assert written < 200 << 20
    until(lambda: _answers(server), what="the hostile model's own return")


def test_a_fork_bomb_stops_at_the_limit_and_neighbours_go_on(server: Deployments) -> None:
    """At the limit of processes or, if that comes first, of memory: then the kernel ends it."""
    bomb = """
    import os, signal
    children, told = [], {}
    try:
        while len(children) < 20000:
            children.append(os.posix_spawn("/bin/sleep", ["sleep", "60"], {}))
    except OSError as error:
        told["errno"] = error.errno
    told["children"] = len(children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)
    """
    with ThreadPoolExecutor(1) as pool, contextlib.suppress(server.runtime.exceptions.ModelError):
        bombing = pool.submit(attempt, server, bomb)
        while not bombing.done():
            began = Watch()
            assert server.invoke("victim", b"x") == b"x"
            assert began.free < 3
        told = bombing.result()
        assert told.get("errno") in (errno.EAGAIN, errno.ENOMEM), told
        assert told["children"] < 4096
    until(lambda: _answers(server), what="the hostile model's own return")


def test_twice_the_memory_ends_only_itself(server: Deployments) -> None:
    with pytest.raises(ClientError) as caught:
        attempt(server, f"told = len(bytearray({2 * MEMORY} << 20))")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert server.invoke("victim", b"x") == b"x"
    until(lambda: _answers(server), what="the hostile model's own return")


def test_filling_tmp_and_shared_memory_is_its_own_trouble(server: Deployments) -> None:
    """Its /tmp is memory of its own, counted as such."""
    server.deploy("filler", script(HOSTILE))
    free = psutil.disk_usage("/tmp").free
    fill = """
    told = {}
    for path in ("/tmp/filler", "/dev/shm/filler", "/var/tmp/filler"):
        with open(path, "wb", buffering=0) as file:
            try:
                for _ in range(2048):
                    file.write(bytes(1 << 20))
                told[path] = "filled"
            except OSError as error:
                told[path] = error.errno
    """
    with contextlib.suppress(server.runtime.exceptions.ModelError):  # the kernel ended it, or it was told that there is no room
        assert "filled" not in attempt(server, fill, "filler").values()
    assert psutil.disk_usage("/tmp").free > free - (512 << 20)
    assert server.invoke("victim", b"x") == b"x"
    server.delete("filler")
    server.gone("filler")


def _answers(server: Deployments) -> bool:
    try:
        return bool(attempt(server, "told = 1") == 1)
    except ClientError:
        return False


# ---- network isolation


def test_an_isolated_model_serves_and_reaches_nothing(server: Deployments) -> None:
    port = int(server.launched.endpoint_url.rsplit(":", 1)[1])
    with socket.socket(socket.AF_UNIX) as abstract, socket.create_server(("127.0.0.1", 0)) as listener:
        name = f"\0slipway-test-{uuid.uuid4().hex}"
        abstract.bind(name)
        abstract.listen()
        targets = [("127.0.0.1", port), ("127.0.0.1", listener.getsockname()[1]), ("169.254.169.254", 80), ("192.0.2.1", 443)]
        targets += [
            (str(address.address), port)
            for nics in psutil.net_if_addrs().values()
            for address in nics
            if "." in address.address
        ]
        code = f"""
        import socket
        told = []
        for where in {targets!r}:
            try:
                socket.create_connection(tuple(where), timeout=2).close()
                told.append(where)
            except OSError:
                pass
        try:
            socket.getaddrinfo("example.com", 80)
            told.append("names")
        except OSError:
            pass
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect({name!r})
                told.append("abstract")
            except OSError:
                pass
        """
        assert attempt(server, code, "isolated") == []
        assert ["127.0.0.1", port] in attempt(server, code, "hostile"), "the attempt itself works"


def test_an_isolated_model_gets_no_credentials(server: Deployments) -> None:
    code = "import os; told = sorted(name for name in os.environ if name.startswith('AWS'))"
    assert attempt(server, code, "isolated") == ["AWS_DEFAULT_REGION", "AWS_REGION"]
    assert "AWS_CONTAINER_AUTHORIZATION_TOKEN" in attempt(server, code)


def test_isolation_without_a_sandbox_is_refused_never_pretended() -> None:
    with temporary(["--sandbox", "off"]) as launched:
        server = Deployments(launched)
        reason = server.fail("isolated", script(IDENTITY), EnableNetworkIsolation=True)
        assert "etwork isolation" in reason
        assert "--sandbox off" in reason
        server.deploy("open", script(IDENTITY))
        assert server.invoke("open", b"x") == b"x"


# ---- outliving


LEAVE = """
import os
told = 1
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.closerange(0, 64)
        os.execv("/bin/sh", ["sh", "-c", "trap '' TERM HUP INT; while :; do sleep 1; done", "%s"])
    os._exit(0)
"""


def survivors(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_what_it_leaves_behind_dies_with_the_endpoint(server: Deployments) -> None:
    server.deploy("leaver", script(HOSTILE))
    mark = f"left-{uuid.uuid4().hex}"
    attempt(server, LEAVE % mark, "leaver")
    until(lambda: bool(survivors(mark)), what="the process that stays behind")
    began = Watch()
    server.delete("leaver")
    server.gone("leaver")
    until(lambda: not survivors(mark), what="its end")
    assert began.free < 5


def test_what_it_leaves_behind_dies_with_the_keeper(tmp_path: Path) -> None:
    launched = launch.start(tmp_path)
    try:
        server = Deployments(launched)
        server.deploy("leaver", script(HOSTILE))
        mark = f"left-{uuid.uuid4().hex}"
        attempt(server, LEAVE % mark, "leaver")
        until(lambda: bool(survivors(mark)), what="the process that stays behind")
        launched.process.kill()
        launched.process.wait()
        began = Watch()
        until(lambda: not survivors(mark), what="its end")
        assert began.free < 2
    finally:
        launch.stop(launched)
