"""Whether a command can be started at all: found, executable, and its `#!` line names a program that is there.

Used where a directory image is registered and again where it starts, since what is installed may differ by then.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

_MAGIC = b"\x7fELF"
_FIRST_LINE = 256


class Obstacle(NamedTuple):
    message: str
    mend: str


def find(name: str, path: str, folder: str) -> str:
    """Where `name` is, as execvp would find it from `folder`; the name itself when it is nowhere."""
    if "/" in name:
        return os.path.join(folder, name)
    candidates = [os.path.join(folder, part, name) for part in path.split(":")]
    files = [file for file in candidates if os.path.isfile(file)]
    return next((file for file in files if os.access(file, os.X_OK)), files[0] if files else name)


def obstacle(name: str, path: str, folder: str) -> Obstacle | None:
    """Why `name` cannot be started with that PATH and working directory, and what to do; None when nothing is in the way."""
    file = find(name, path, folder)
    shown = os.path.basename(file)
    if not os.path.isfile(file):
        mend = "add an executable file `serve`, or a Dockerfile with an ENTRYPOINT in exec form"
        if "/" in name:
            mend = "correct ENTRYPOINT: only the image's folder, its Python environment and this machine's /usr are there"
        return Obstacle(f"There is no program {name!r} in the image's folder or on PATH ({path}).", mend)
    if not os.access(file, os.X_OK) or not os.stat(file).st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
        return Obstacle(f"The file {shown} is not executable.", f"run `chmod a+rx {shown}`")
    try:
        with open(file, "rb") as opened:
            line = opened.read(_FIRST_LINE).split(b"\n", 1)[0]
    except OSError as error:
        return Obstacle(f"The file {shown} cannot be read ({error.strerror}).", f"run `chmod a+rx {shown}`")
    return _of_first_line(line, shown, path, folder)


def _of_first_line(line: bytes, shown: str, path: str, folder: str) -> Obstacle | None:
    if line.startswith(_MAGIC):
        return None
    if not line.startswith(b"#!"):
        return Obstacle(
            f"The file {shown} has no `#!` line.", "let its first line name the interpreter, as in #!/usr/bin/env python3"
        )
    if line.endswith(b"\r"):
        return Obstacle(
            f"The file {shown} has Windows line ends, so that its `#!` line names no program.", f"run dos2unix on {shown}"
        )
    words = line[2:].decode("utf-8", "replace").split()
    if not words:
        return Obstacle(f"The `#!` line of {shown} names no program.", "name an interpreter, as in #!/usr/bin/env python3")
    wanted = words[0]
    if os.path.basename(wanted) == "env" and os.path.isfile(wanted):
        programs = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        wanted = programs[0] if programs else wanted
    file = find(wanted, path, folder)
    if os.path.isfile(file) and os.access(file, os.X_OK):
        return None
    mend = f"change the `#!` line of {shown} to a program that is installed"
    if os.path.basename(wanted).startswith("python"):
        mend = "register the image with a Python of its own (slipway images add NAME DIR --python 3.11 --requirements FILE)"
        mend += ", and begin with #!/usr/bin/env python"
    return Obstacle(f"The file {shown} begins with {line.decode('utf-8', 'replace')!r}, and {wanted} is not there.", mend)
