"""Arguments, environment and file become Settings here and nowhere else.

A setting is taken from the first of: the command's argument, `SLIPWAY_<NAME>` in the environment, `slipway.toml` in the data
directory (or the file named by `--config`), the default.
"""

from __future__ import annotations

import argparse
import hashlib
import ipaddress
import math
import os
import re
import ssl
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipway.backing.notices_addresses import parse_allowed
from slipway.settings import ConfiguredKey, ExternalS3, Limits, Settings, profile


class UsageError(Exception):
    """A mistake of the user's: one line, with the mend."""


@dataclass(frozen=True, slots=True)
class Option:
    name: str
    """`data-dir`: the argument `--data-dir`, the variable SLIPWAY_DATA_DIR, the key `data-dir` of the file."""
    parse: Callable[[str], Any]
    default: Any
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] | None = None


def _size(text: str) -> int:
    units = {"k": 1024, "m": 1024**2, "g": 1024**3}
    body = text.strip().lower().removesuffix("ib").removesuffix("b")
    factor = units.get(body[-1:], 1)
    return int(float(body.rstrip("kmg")) * factor)


def _positive(text: str) -> int:
    number = int(text)
    if not 0 < number < 1000:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise ValueError(text)
    return seconds


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise ValueError(text)
    return share


_KEY = re.compile(r"([A-Za-z0-9_-]{1,128}):([^:,\s]{1,128})(?::([0-9]{12}))?")


def _keys(text: str) -> tuple[tuple[str, str, str | None], ...]:
    """Id, secret and account (None: the default one) of `id:secret[:account],…`."""
    matches = [_KEY.fullmatch(part.strip()) for part in text.split(",")]
    if not all(matches) or len({match[1] for match in matches if match}) != len(matches):
        raise ValueError(text)
    return tuple((match[1], match[2], match[3]) for match in matches if match)


def _allowed(text: str) -> tuple[str, ...]:
    entries = tuple(part.strip() for part in text.split(",") if part.strip())
    parse_allowed(entries)
    return entries


OPTIONS: tuple[Option, ...] = (
    Option("host", str, "127.0.0.1", "address to listen on; any but loopback needs --tls-cert and --tls-key"),
    Option("port", int, 4566, "port to listen on; 0 takes a free one"),
    Option("auth", str, "sigv4", "`none` takes unsigned calls too, on loopback only", choices=("sigv4", "none")),
    Option("database", str, None, "postgresql://user:password@host/name; default: SQLite in the data directory", metavar="URL"),
    Option("account", str, "123456789012", "AWS account number that resources belong to"),
    Option("region", str, "us-east-1", "region of callers that name none"),
    Option("keys", _keys, (), "further access keys, `id:secret[:account],…`; SLIPWAY_KEYS or the file, never an argument"),
    Option("limits", str, "aws", "payload and time limits", choices=("aws", "aws-2022", "off")),
    Option("start-limit", _seconds, None, "a container's time for its first good ping (480 on AWS)", metavar="SECONDS"),
    Option("invoke-limit", _seconds, None, "a model's time for one answer (60 on AWS)", metavar="SECONDS"),
    Option("stream-limit", _seconds, None, "a model's time for a whole response stream (480 on AWS)", metavar="SECONDS"),
    Option(
        "model-wait-limit",
        _seconds,
        None,
        "how long a request waits for a model of many (default: 58; AWS 60)",
        metavar="SECONDS",
    ),
    Option("model-load-limit", _seconds, None, "one load of a model of many (360 on AWS)", metavar="SECONDS"),
    Option("model-memory", _share, 0.8, "share of an instance's memory for the models loaded in it", metavar="SHARE"),
    Option("time-scale", float, 1.0, "divides metric periods, cooldowns and idle times; timestamps stay real", metavar="N"),
    Option(
        "scale-from-zero",
        str,
        "arrival",
        "what starts an asynchronous endpoint at zero instances: the first request, or AWS's alarms alone",
        choices=("arrival", "alarm"),
    ),
    Option("tls-cert", str, None, "certificate chain, PEM", metavar="FILE"),
    Option("tls-key", str, None, "private key, PEM", metavar="FILE"),
    Option("sandbox", str, "auto", "isolation of model processes", choices=("auto", "required", "off")),
    Option("replica-memory", _size, 0, "upper bound of one model process's memory, e.g. 2GiB", metavar="SIZE"),
    Option("gpu-sharing", _positive, 1, "instances that may share one GPU", metavar="N"),
    Option("s3-endpoint", str, None, "keep objects in this S3 instead of the data directory", metavar="URL"),
    Option("s3-access-key", str, None, "its access key (better: SLIPWAY_S3_ACCESS_KEY)", metavar="ID"),
    Option("s3-secret-key", str, None, "its secret: SLIPWAY_S3_SECRET_KEY or the file, never an argument", metavar="SECRET"),
    Option("s3-region", str, "us-east-1", "its region", metavar="REGION"),
    Option(
        "notify-allow", _allowed, (), "private addresses that notifications may go to: networks, host names", metavar="LIST"
    ),
    Option("commit-group", int, 1000, "writes that share one commit at most; 1 shows what sharing gives", metavar="N"),
    Option("cache-dir", str, None, "built environments, shared between data directories", metavar="DIR"),
    Option("log-level", str, "info", "what the roles log", choices=("debug", "info", "warning", "error")),
)
SECRET = frozenset({"s3-secret-key", "keys"})
"""Never arguments: every user of the machine can read those. Never shown in an error either."""


def add_location(parser: argparse.ArgumentParser, *, default: str | None = None) -> None:
    """The arguments that every command takes: which slipway is meant."""
    text = "where everything durable lives (default: ~/.slipway)"
    parser.add_argument("--data-dir", metavar="DIR", default=default, help=text)
    text = "settings file (default: slipway.toml in the data directory)"
    parser.add_argument("--config", metavar="FILE", default=default, help=text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Every setting as an argument."""
    add_location(parser)
    for option in OPTIONS:
        if option.name in SECRET:
            continue
        shown = f" (default: {option.default})" if option.default else ""
        parser.add_argument(
            f"--{option.name}", default=None, choices=option.choices, metavar=option.metavar, help=option.help + shown
        )


def data_directory(args: argparse.Namespace, environ: Mapping[str, str]) -> Path:
    return Path(args.data_dir or environ.get("SLIPWAY_DATA_DIR") or Path.home() / ".slipway").expanduser().absolute()


def _file(args: argparse.Namespace, data_dir: Path) -> dict[str, Any]:
    path = Path(args.config).expanduser() if args.config else data_dir / "slipway.toml"
    if not os.path.exists(path):
        if args.config:
            raise UsageError(f"no settings file at {path}: check --config")
        return {}
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    known = {option.name for option in OPTIONS}
    if unknown := sorted(set(found) - known):
        raise UsageError(f"{path} has no setting {unknown[0]!r}: choose from {', '.join(sorted(known))}")
    return found


def _values(args: argparse.Namespace, environ: Mapping[str, str], file: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option in OPTIONS:
        variable = f"SLIPWAY_{option.name.replace('-', '_').upper()}"
        sources = (
            (f"--{option.name}", getattr(args, option.name.replace("-", "_"), None)),
            (variable, environ.get(variable)),
            ("the settings file", file.get(option.name)),
        )
        where, text = next(((where, text) for where, text in sources if text is not None), ("", None))
        if text is None:
            values[option.name] = option.default
            continue
        try:
            values[option.name] = option.parse(str(text))
        except ValueError:
            shown = "the value" if option.name in SECRET else repr(text)
            raise UsageError(f"{where}: {shown} does not fit: {option.help}") from None
        if option.choices and values[option.name] not in option.choices:
            raise UsageError(f"{where}: {text!r} is none of {', '.join(option.choices)}")
    return values


def run_directory(data_dir: Path) -> str:
    """A short path for unix sockets (they hold 107 bytes), one for each data directory and user."""
    digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:10]
    return f"{tempfile.gettempdir()}/slipway-{os.getuid()}-{digest}"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_certificate(certificate: str, key: str) -> None:
    """Now, in one line, and not when the gateway reads it."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UsageError(
            f"{certificate} and {key} are no certificate and its key in PEM, without a password ({reason})"
        ) from None


def _limits(values: Mapping[str, Any]) -> Limits:
    """The profile's, but for what was said in particular."""
    names = ("start", "invoke", "stream", "model-wait", "model-load")
    said = {name: values[f"{name}-limit"] for name in names if values[f"{name}-limit"] is not None}
    seconds = {f"{name.replace('-', '_')}_seconds": value for name, value in said.items()}
    return replace(profile(values["limits"]), model_memory_share=values["model-memory"], **seconds)


def build_settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The Settings that arguments, environment and file give; UsageError names what is wrong and the mend."""
    data_dir = data_directory(args, environ)
    values = _values(args, environ, _file(args, data_dir))
    host, tls = values["host"], (values["tls-cert"], values["tls-key"])
    if (tls[0] is None) != (tls[1] is None):
        raise UsageError("--tls-cert and --tls-key go together: give both")
    for path in filter(None, tls):
        if not Path(path).is_file():
            raise UsageError(f"no file at {path}: check --tls-cert and --tls-key")
    if tls[0]:
        _check_certificate(tls[0], tls[1])
    if not is_loopback(host):
        if values["auth"] == "none":
            raise UsageError(f"--auth none works on loopback only, not on {host}: drop it or use --host 127.0.0.1")
        if tls[0] is None:
            raise UsageError(f"listening on {host} needs TLS: give --tls-cert and --tls-key, or use --host 127.0.0.1")
    if not (values["account"].isdigit() and len(values["account"]) == 12):
        raise UsageError(f"--account takes 12 digits, not {values['account']!r}")
    if not 0 <= values["port"] <= 65535:
        raise UsageError(f"--port takes 0 to 65535, not {values['port']}")
    if (values["database"] or "postgresql://").partition("://")[0] not in ("postgres", "postgresql"):
        raise UsageError(
            "--database takes postgresql://user:password@host/name; without it slipway keeps an SQLite file itself"
        )
    if not 0 < values["time-scale"] < math.inf:
        raise UsageError("--time-scale takes a number above 0")
    if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}", values["region"]):
        raise UsageError(f"--region takes a name like us-east-1, not {values['region']!r}")
    external = None
    if values["s3-endpoint"]:
        if not (values["s3-access-key"] and values["s3-secret-key"]):
            raise UsageError("--s3-endpoint needs SLIPWAY_S3_ACCESS_KEY and SLIPWAY_S3_SECRET_KEY in the environment")
        external = ExternalS3(
            endpoint=values["s3-endpoint"],
            access_key=values["s3-access-key"],
            secret_key=values["s3-secret-key"],
            region=values["s3-region"],
        )
    cache = values["cache-dir"] or Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway"
    return Settings(
        data_dir=str(data_dir),
        run_dir=run_directory(data_dir),
        cache_dir=str(Path(cache).expanduser().absolute()),
        host=host,
        port=values["port"],
        auth=values["auth"],
        database_url=values["database"],
        account=values["account"],
        region=values["region"],
        keys=tuple(ConfiguredKey(id, secret, account or values["account"]) for id, secret, account in values["keys"]),
        time_scale=values["time-scale"],
        scale_from_zero=values["scale-from-zero"],
        tls_cert=tls[0] and str(Path(tls[0]).absolute()),
        tls_key=tls[1] and str(Path(tls[1]).absolute()),
        limits=_limits(values),
        external_s3=external,
        sandbox=values["sandbox"],
        replica_memory_bytes=values["replica-memory"],
        gpu_sharing=values["gpu-sharing"],
        notify_allow=values["notify-allow"],
        commit_group=max(1, values["commit-group"]),
        log_level=values["log-level"],
    )
