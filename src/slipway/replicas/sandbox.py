"""What a replica sees of the machine: its own file system, processes and, when isolated, network; by bubblewrap.

`Sandbox.probe` finds out once whether it works as this user; "present" means that a sandboxed process ran. As root the
replica gets a real user id of its own (no user namespace: bubblewrap's `--uid` alone would leave root's files root's); as
anybody else it runs in a user namespace. Nothing of the keeper's environment or of its data directory is visible inside.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)

FIRST_UID = 200_000
"""As root, replica n runs as user and group FIRST_UID + n % UIDS."""
UIDS = 50_000
MODEL = "/opt/ml/model"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "timezone",
)
_MEND = (
    "install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap) and start slipway again"
)


@dataclass(frozen=True, slots=True)
class Confinement:
    """What one replica may see and be."""

    run_dir: str
    """At the same path inside; read-only."""
    binds: Mapping[str, str]
    """Path inside → folder or file outside, read-only."""
    readable: Sequence[str]
    """Interpreter, environment, host package: read-only at their own paths; those under /usr may be among them."""
    isolated: bool
    uid: int | None
    """Real user and group id; None: the keeper's own, in a user namespace."""
    memory_bytes: int
    working_dir: str
    hostname: str = "model.aws.local"
    devices: Sequence[str] = ()
    """Device files that it may use, at their own paths."""
    writable: Sequence[str] = ()
    """Folders of its own that it may write to, in memory, empty at first (beside /tmp)."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What the probe found. `bwrap` None: there is none, `reason` says why and `mend` what to do."""

    bwrap: str | None
    as_root: bool
    """Real user ids instead of a user namespace."""
    setpriv: str | None = None
    reason: str = ""
    mend: str = ""
    etc: str = ""
    """Folder with the generated passwd, group."""

    @property
    def name(self) -> str:
        if self.bwrap is None:
            return f"none: {self.reason}"
        return "bubblewrap, a user for each replica" if self.as_root else "bubblewrap, in a user namespace"

    @classmethod
    def probe(cls, etc: str) -> Sandbox:
        """Try it. `etc` is a folder of ours, in which the sandbox's user database is written."""
        if sys.platform != "linux":
            return cls(None, False, reason="sandboxing needs Linux", mend="run slipway on Linux")
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            return cls(None, False, reason="bubblewrap is not installed", mend=_MEND)
        os.makedirs(etc, exist_ok=True)
        reason = ""
        if os.geteuid() == 0 and (setpriv := shutil.which("setpriv")) is not None:
            found = cls(bwrap, True, setpriv, etc=etc)
            if not (reason := found._try(FIRST_UID)):
                return found
        found = cls(bwrap, False, etc=etc)
        reason = found._try(None) or reason
        if not reason or found._try(None) == "":
            return found
        mend = (
            "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces; on Ubuntu"
        )
        mend += " 24.04 kernel.apparmor_restrict_unprivileged_userns=0), or run slipway as root"
        return cls(None, False, reason=f"bubblewrap does not work here: {reason}", mend=mend)

    def _try(self, uid: int | None) -> str:
        """Why a sandboxed process did not run; empty when it did, with a network namespace of its own."""
        with_net = Confinement(self.etc, {}, (), True, uid, 0, "/")
        try:
            result = subprocess.run(
                self.command(with_net, ["/bin/sh", "-c", "exit 0"]),
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return "" if result.returncode == 0 else (result.stderr.strip() or f"exit code {result.returncode}")

    def command(self, spec: Confinement, argv: Sequence[str], info_fd: int | None = None) -> list[str]:
        """The argument vector that runs `argv` confined, in an environment of PATH alone.

        The user's environment must be set by `argv` itself (`environment_script`): as root, the programs before it still
        run as root, and LD_PRELOAD in their environment would hand over the machine.
        """
        assert self.bwrap is not None
        front = [self.bwrap]
        if info_fd is not None:
            front += ["--info-fd", str(info_fd)]
        front += [*self._options(spec), "--"]
        if self.as_root and spec.uid is not None:
            assert self.setpriv is not None
            ids = ["--reuid", str(spec.uid), "--regid", str(spec.uid), "--clear-groups"]
            front += [self.setpriv, *ids, "--inh-caps=-all", "--bounding-set=-all", "--"]
        return [*front, *argv]

    def _options(self, spec: Confinement) -> list[str]:
        """bubblewrap's options for `spec`; later mounts lie over earlier ones."""
        out = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session"]
        if not self.as_root:
            out += ["--unshare-user", "--cap-drop", "ALL"]
        if spec.isolated:
            out.append("--unshare-net")
        out += ["--hostname", spec.hostname, "--clearenv", "--setenv", "PATH", SYSTEM_PATH]
        out += self._system(spec)
        readable = _outside_system(spec.readable)
        # Parents that bubblewrap makes by itself are closed to all but root (0700).
        for path in _parents([*readable, *spec.binds, *spec.writable, *spec.devices, spec.run_dir, f"{MODEL}/."], readable):
            out += ["--perms", "0755", "--dir", path]
        size = ["--size", str(spec.memory_bytes)] if spec.memory_bytes else []
        for path in spec.writable:
            out += ["--perms", "1777", *size, "--tmpfs", path]
        for path in readable:
            out += ["--ro-bind", path, path]
        for inside, outside in sorted(spec.binds.items()):
            out += ["--ro-bind", outside, inside]
        for path in spec.devices:
            out += ["--dev-bind", path, path]
        out += ["--ro-bind", spec.run_dir, spec.run_dir]
        # In a user namespace the root folder would be the replica's own.
        return [*out, "--remount-ro", "/", "--chdir", spec.working_dir]

    def _system(self, spec: Confinement) -> list[str]:
        out = ["--perms", "0755", "--dir", "/etc", "--perms", "0755", "--dir", "/var"]
        for path in _SYSTEM:
            if os.path.islink(path):
                out += ["--symlink", os.readlink(path), path]
            elif os.path.isdir(path):
                out += ["--ro-bind", path, path]
        for name in _ETC:
            if os.path.exists(f"/etc/{name}"):
                out += ["--ro-bind", os.path.realpath(f"/etc/{name}"), f"/etc/{name}"]
        for name, text in _user_database(spec.uid).items():
            file = f"{self.etc}/{name}-{'self' if spec.uid is None else spec.uid}"
            if not os.path.exists(file):
                with open(file, "w") as out_file:
                    out_file.write(text)
                os.chmod(file, 0o644)
            out += ["--ro-bind", file, f"/etc/{name}"]
        size = ["--size", str(spec.memory_bytes)] if spec.memory_bytes else []
        out += ["--proc", "/proc", "--dev", "/dev"]
        for path in ("/dev/shm", "/tmp", "/var/tmp"):  # noqa: S108  the sandbox's own, private
            out += ["--perms", "1777", *size, "--tmpfs", path]
        return out


def environment_script(environment: Mapping[str, str]) -> str:
    """A shell script that sets `environment` and becomes the command in its arguments.

    Values stay out of process arguments, where every user could read them. ValueError for what no shell can set.
    """
    lines = ["#!/bin/sh"]
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise ValueError(f"{name!r} cannot be an environment variable")
        lines.append(f"export {name}={shlex.quote(value)}")
    return "\n".join([*lines, 'exec "$@"', ""])


def _parents(paths: Sequence[str], bound: Sequence[str]) -> list[str]:
    """Folders to make, from the top down; not those that come with a bound folder."""
    needed: set[str] = set()
    for path in paths:
        while (path := os.path.dirname(path)) != "/":
            needed.add(path)
    return sorted(path for path in needed if not any(path == top or path.startswith(f"{top}/") for top in (*_SYSTEM, *bound)))


def _outside_system(paths: Sequence[str]) -> list[str]:
    """Without what /usr holds already and without what lies inside another of them."""
    out: list[str] = []
    for path in sorted({os.path.abspath(path) for path in paths}):
        if any(path == top or path.startswith(f"{top}/") for top in (*_SYSTEM, *out)):
            continue
        out.append(path)
    return out


def _user_database(uid: int | None) -> dict[str, str]:
    """A passwd and group that know the replica's user, for whatever looks up its own name."""
    number, group = (os.geteuid(), os.getegid()) if uid is None else (uid, uid)
    passwd, groups = "root:x:0:0:root:/:/sbin/nologin\n", "root:x:0:\n"
    if number != 0:
        passwd += f"model:x:{number}:{group}::/tmp:/bin/sh\n"
        groups += f"model:x:{group}:\n"
    return {"passwd": passwd, "group": groups}


def warning(sandbox: Sandbox) -> str:
    """For the log and a replica's notes."""
    return f"models run without a sandbox: {sandbox.reason}; {sandbox.mend}"
