"""S1: signed requests of every class of routes, each changed in thousands of ways; not one changed request is carried out.

The whole of dispatch stands between a request and an operation that only counts: what it has counted was accepted. Seeded, so
that a failure can be had again; the requests are botocore's.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import random
import string
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from slipway.core.routing import Key
from slipway.http.messages import BodyTooLarge, Headers, Request
from slipway.services import World
from slipway.services import slipway as own_routes
from slipway.services.authenticate import Keys
from slipway.services.dispatch import Dispatcher
from slipway.settings import Settings
from slipway.wire.canonical import signing_key
from slipway.wire.claims import SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER
from slipway.wire.models import ServiceModels
from slipway.wire.route import Router

REGION = "eu-central-1"
KEY = Key("AKIAMUTATIONTEST", "the/secret+of/this=test", "111122223333", "arn:aws:iam::111122223333:root")
SESSION = Key("ASIAMUTATIONTEST", "another/secret", "111122223333", KEY.principal, "session/token==", time.time() + 86_400)
KEYS = {key.id: key for key in (KEY, SESSION)}
HOST = b"localhost:4566"
SERVICES = ("sagemaker", "sagemaker-runtime", "s3", "sts", "iam", "logs", "ecr")
MUTATIONS = 5000


@dataclass(frozen=True)
class Sent:
    """A request as it would arrive."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> bytes:
        return dict(self.headers).get(name, b"")

    def with_header(self, name: bytes, value: bytes | None) -> Sent:
        """`value` None: without the header."""
        kept = tuple(pair for pair in self.headers if pair[0] != name)
        return replace(self, headers=kept if value is None else (*kept, (name, value)))


class Bytes:
    """A body that has arrived, in pieces."""

    def __init__(self, data: bytes) -> None:
        self.length: int | None = len(data)
        self._data = data

    async def read(self, limit: int) -> bytes:
        if len(self._data) > limit:
            raise BodyTooLarge
        return self._data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._data), 5000):
            yield self._data[at : at + 5000]


class Counting:
    """A service all of whose operations are built and do nothing but read their stream and count."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def operation(ctx: Any, request: dict[str, Any]) -> dict[str, Any]:
            if hasattr(request.get("Body"), "__aiter__"):
                async for _ in request["Body"]:
                    pass
            self.done.append(name)
            return {}

        return operation


class KnownKeys:
    async def find(self, key_id: str) -> Key | None:
        return KEYS.get(key_id)


class Door:
    """The dispatcher with counting operations behind it."""

    def __init__(self) -> None:
        self.counting = Counting()
        settings = Settings(data_dir="", run_dir="", cache_dir="")
        empty = cast("Any", None)
        self.world = World(
            settings=settings,
            db=cast("Any", _NoEndpoints(self.counting)),
            objects=empty,
            logs=empty,
            metrics=empty,
            now=time.time,
            wake=lambda *_: None,
            changed=empty,
            keys_changed=empty,
        )
        modules = dict.fromkeys(SERVICES, self.counting)
        self.dispatcher = Dispatcher(self.world, Router(ServiceModels(SERVICES)), modules, cast("Keys", KnownKeys()))

    async def accepts(self, sent: Sent) -> bool:
        """Whether an operation was carried out."""
        before = len(self.counting.done)
        headers: Headers = list(sent.headers)
        response = await self.dispatcher(Request(sent.method, sent.target, headers, Bytes(sent.body)))
        done = len(self.counting.done) > before
        assert done or response.status >= 400 or sent.target.startswith(b"/_slipway/health")
        return done


class _NoEndpoints:
    def __init__(self, counting: Counting) -> None:
        self._counting = counting

    async def read(self, fn: Any) -> list[Any]:
        self._counting.done.append("read")
        return []


# ---- the requests


def botocore_request(
    service: str,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    key: Key = KEY,
    signer: Any = None,
    mode: str = "",
    **headers: str,
) -> Sent:
    request = AWSRequest(method=method, url=f"http://{HOST.decode()}{target}", data=b"" if signer else body)
    for name, value in headers.items():
        request.headers[name.replace("_", "-")] = value
    credentials = Credentials(key.id, key.secret, key.token)
    if signer is HmacV1QueryAuth:
        signer(credentials, expires=600).add_auth(request)
    elif signer is not None:
        signer(credentials, service, REGION, expires=600).add_auth(request)
    elif service == "s3":
        request.context["payload_signing_enabled"] = True
        made = S3SigV4Auth(credentials, service, REGION)
        if mode:
            made.payload = lambda _: mode
        made.add_auth(request)
    else:
        SigV4Auth(credentials, service, REGION).add_auth(request)
    parts = urlsplit(request.url)
    found = parts.path + (f"?{parts.query}" if parts.query else "")
    pairs = [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
    if signer is HmacV1QueryAuth:
        pairs = [pair for pair in pairs if pair[0] not in (b"date", b"x-amz-security-token")]
    return Sent(method, found.encode(), (*pairs, (b"host", HOST)), body)


DATA = random.Random(3).randbytes(20_000)


def chunked_request(mode: str) -> Sent:
    trailer = "" if mode == SIGNED_CHUNKS else "x-amz-checksum-crc32"
    more: dict[str, Any] = {"x_amz_decoded_content_length": str(len(DATA)), "content_encoding": "aws-chunked"}
    if trailer:
        more["x_amz_trailer"] = trailer
    sent = botocore_request("s3", "PUT", "/bucket/key", mode=mode, **more)
    return replace(sent, body=chunked_body(sent, mode))


def chunked_body(sent: Sent, mode: str) -> bytes:
    date, previous = sent.header(b"x-amz-date"), sent.header(b"authorization")[-64:]
    scope = b"%b/%b/s3/aws4_request" % (date[:8], REGION.encode())
    key = signing_key(KEY.secret, date[:8].decode(), REGION, "s3")
    signed, out = mode != UNSIGNED_CHUNKS_TRAILER, []
    for at in (0, 8192, 16_384, len(DATA)):
        piece = DATA[at : at + 8192]
        head = b"%x" % len(piece)
        if signed:
            digests = [hashlib.sha256(part).hexdigest().encode() for part in (b"", piece)]
            previous = key.sign(b"\n".join((b"AWS4-HMAC-SHA256-PAYLOAD", date, scope, previous, *digests)))
            head += b";chunk-signature=" + previous
        out.append(head + b"\r\n" + (piece + b"\r\n" if piece else b""))
    if mode != SIGNED_CHUNKS:
        line = b"x-amz-checksum-crc32:AAAAAA=="
        out.append(line + b"\r\n")
        if signed:
            digest = hashlib.sha256(line + b"\n").hexdigest().encode()
            signature = key.sign(b"\n".join((b"AWS4-HMAC-SHA256-TRAILER", date, scope, previous, digest)))
            out.append(b"x-amz-trailer-signature:" + signature + b"\r\n")
    return b"".join(out) + b"\r\n"


JSON = "application/x-amz-json-1.1"
WHO = b"Action=GetCallerIdentity&Version=2011-06-15"
FORM = "application/x-www-form-urlencoded; charset=utf-8"

CLASSES: dict[str, Callable[[], Sent]] = {
    "json": lambda: botocore_request(
        "sagemaker", "POST", "/", b'{"EndpointName":"e"}', X_Amz_Target="SageMaker.DeleteEndpoint", Content_Type=JSON
    ),
    "json with a session": lambda: botocore_request(
        "logs", "POST", "/", b"{}", key=SESSION, X_Amz_Target="Logs_20140328.DescribeLogGroups", Content_Type=JSON
    ),
    "query": lambda: botocore_request("sts", "POST", "/", WHO, Content_Type=FORM),
    "query in the URL": lambda: botocore_request("sts", "GET", "/?" + WHO.decode(), signer=SigV4QueryAuth),
    "runtime": lambda: botocore_request(
        "sagemaker", "POST", "/endpoints/my-endpoint/invocations", b"1,2,3", Content_Type="text/csv"
    ),
    "own route": lambda: botocore_request("slipway", "GET", "/_slipway/status"),
    "s3 get": lambda: botocore_request("s3", "GET", "/bucket/a%20key/b.txt?partNumber=1", Range="bytes=0-9"),
    "s3 list": lambda: botocore_request("s3", "GET", "/bucket?list-type=2&prefix=a%2Fb&encoding-type=url", key=SESSION),
    "s3 put": lambda: botocore_request("s3", "PUT", "/bucket/key", b"some content", Content_MD5="7Qdih1MuhjZehB6Sv8UNjA=="),
    "s3 put, unsigned payload": lambda: botocore_request("s3", "PUT", "/bucket/key", b"x", mode="UNSIGNED-PAYLOAD"),
    "s3 presigned get": lambda: botocore_request("s3", "GET", "/bucket/a%20key?partNumber=1", signer=S3SigV4QueryAuth),
    "s3 presigned put, session": lambda: botocore_request(
        "s3", "PUT", "/bucket/key", b"x", key=SESSION, signer=S3SigV4QueryAuth
    ),
    "s3 presigned get, version 2": lambda: botocore_request(
        "s3", "GET", "/bucket/a%20key?partNumber=1", signer=HmacV1QueryAuth
    ),
    "s3 presigned delete, version 2, session": lambda: botocore_request(
        "s3", "DELETE", "/bucket/key", key=SESSION, signer=HmacV1QueryAuth
    ),
    "s3 signed chunks": lambda: chunked_request(SIGNED_CHUNKS),
    "s3 signed chunks and trailer": lambda: chunked_request(SIGNED_CHUNKS_TRAILER),
    "s3 unsigned trailer": lambda: chunked_request(UNSIGNED_CHUNKS_TRAILER),
}


# ---- the mutations: each gives a request that means something else, or None where it does not apply

Mutation = Callable[[Sent, random.Random], Sent | None]


def flipped(text: bytes, chance: random.Random) -> bytes:
    """One character another."""
    at = chance.randrange(len(text))
    alphabet = (string.ascii_letters + string.digits).encode()
    other = chance.choice([letter for letter in alphabet if letter != text[at]])
    return text[:at] + bytes([other]) + text[at + 1 :]


def signed_names(sent: Sent) -> list[bytes]:
    """Of the headers that the signature covers."""
    text = sent.header(b"authorization").partition(b"SignedHeaders=")[2].partition(b",")[0]
    if text:
        return text.split(b";")
    return [b"host"] if b"X-Amz-SignedHeaders" in sent.target else []


def change_authorization(sent: Sent, chance: random.Random) -> Sent | None:
    value = sent.header(b"authorization")
    if not value:
        return None
    parts = value.split(b"=")
    return chance.choice(
        [
            sent.with_header(b"authorization", None),
            sent.with_header(b"authorization", flipped(value, chance)),
            sent.with_header(b"authorization", value[:-1]),
            sent.with_header(b"authorization", value + b"0"),
            sent.with_header(b"authorization", value[:-64]),
            sent.with_header(b"authorization", value[:-64] + b"0" * 64),
            sent.with_header(b"authorization", value[:-64] + value[-64:].upper())
            if value[-64:].upper() != value[-64:]
            else None,
            sent.with_header(b"authorization", value.replace(b"AWS4-HMAC-SHA256", b"AWS4-ECDSA-P256-SHA256")),
            sent.with_header(b"authorization", value.replace(b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA512")),
            sent.with_header(b"authorization", value.replace(b"aws4_request", b"aws4_request2")),
            sent.with_header(b"authorization", value.replace(REGION.encode(), b"us-east-1")),
            sent.with_header(b"authorization", value.replace(KEY.id.encode(), SESSION.id.encode()))
            if KEY.id.encode() in value
            else sent.with_header(b"authorization", value.replace(SESSION.id.encode(), KEY.id.encode())),
            sent.with_header(b"authorization", b"=".join([*parts[:-2], parts[-2], parts[-1], parts[-1]])),
            sent.with_header(b"authorization", b"AWS " + KEY.id.encode() + b":" + base64.b64encode(chance.randbytes(20))),
            sent.with_header(b"authorization", b"Bearer " + value),
            replace(sent, headers=(*sent.headers, (b"authorization", value))),
        ]
    )


def change_service(sent: Sent, chance: random.Random) -> Sent | None:
    services = [b"sagemaker", b"s3", b"sts", b"iam", b"logs", b"ecr", b"slipway", b"execute-api"]
    old = next((name for name in services if b"/" + name + b"/aws4" in sent.header(b"authorization")), None)
    if old is None:
        return None
    new = chance.choice([name for name in services if name != old])
    value = sent.header(b"authorization").replace(b"/" + old + b"/aws4", b"/" + new + b"/aws4")
    return sent.with_header(b"authorization", value)


def change_signed_headers(sent: Sent, chance: random.Random) -> Sent | None:
    names = signed_names(sent)
    if not names or b"authorization" not in dict(sent.headers):
        return None
    raw = b";".join(names)
    less = [name for name in names if name != chance.choice(names)]
    more = sorted({*names, chance.choice([b"user-agent", b"accept", b"x-amz-none", b"content-length"])})
    shuffled = names[:]
    chance.shuffle(shuffled)
    new = chance.choice([less, more, shuffled, [*names, names[-1]], [name.upper() for name in names], []])
    value = sent.header(b"authorization").replace(b"SignedHeaders=" + raw, b"SignedHeaders=" + b";".join(new))
    return sent.with_header(b"authorization", value) if new != names else None


def change_header(sent: Sent, chance: random.Random) -> Sent | None:
    names = [name for name in signed_names(sent) if sent.header(name)]
    if not names:
        return None
    name = chance.choice(names)
    value = sent.header(name)
    return chance.choice(
        [
            sent.with_header(name, None),
            sent.with_header(name, flipped(value, chance)),
            sent.with_header(name, value + b"0"),
            sent.with_header(name, b""),
            replace(sent, headers=(*sent.headers, (name, value))),
            replace(sent, headers=((name, flipped(value, chance)), *sent.headers)),
            replace(sent, headers=(*sent.headers, (name, flipped(value, chance)))),
        ]
    )


def add_header(sent: Sent, chance: random.Random) -> Sent | None:
    name = chance.choice(
        [b"x-amz-acl", b"x-amz-copy-source", b"x-amz-meta-a", b"x-amz-target", b"x-amz-tagging", b"x-amz-security-token"]
    )
    value = chance.choice([b"public-read", b"/bucket/other", b"SageMaker.DeleteModel", b"session/token=="])
    return None if sent.header(name) else sent.with_header(name, value)


def change_date(sent: Sent, chance: random.Random) -> Sent | None:
    seconds = chance.choice([-86_400, -3600, -901, 901, 3600, 86_400]) + chance.choice([-1, 1]) * chance.randrange(60) * 60
    if abs(seconds) < 901:
        seconds = 1800
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + seconds)).encode()
    old = sent.header(b"x-amz-date")
    if not old:
        return None
    moved = sent.with_header(b"x-amz-date", stamp)
    value = sent.header(b"authorization").replace(old[:8] + b"/", stamp[:8] + b"/")
    return chance.choice([moved, moved.with_header(b"authorization", value), moved.with_header(b"date", old)])


def change_method(sent: Sent, chance: random.Random) -> Sent | None:
    methods = [name for name in ("GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS") if name != sent.method]
    return replace(sent, method=chance.choice(methods))


def change_path(sent: Sent, chance: random.Random) -> Sent | None:
    path, mark, query = sent.target.partition(b"?")
    at = chance.randrange(1, len(path) + 1)
    new = chance.choice(
        [
            path[:at]
            + chance.choice([b"x", b"%2F", b"/", b"//", b"/./", b"/../", b"/x/../", b"%2e%2e/", b"%00", b"%20", b"+"])
            + path[at:],
            path[: at - 1] + path[at:] if len(path) > 1 else path + b"a",
            path[: at - 1] + b"%%%02X" % path[at - 1] + path[at:],
            path + b"/",
            b"/" + path,
            path.swapcase(),
            path.replace(b"%20", b" "),
            path.replace(b"%20", b"+"),
            path.replace(b"bucket", b"other"),
            path.replace(b"my-endpoint", b"other"),
        ]
    )
    if new == path or equal_path(sent, new, path):
        return None
    return replace(sent, target=new + mark + query)


def equal_path(sent: Sent, new: bytes, old: bytes) -> bool:
    """The same path said otherwise: a space that a client forgot to escape."""
    return new.replace(b" ", b"%20") == old


def change_query(sent: Sent, chance: random.Random) -> Sent | None:
    path, _, query = sent.target.partition(b"?")
    pairs = query.split(b"&") if query else []
    extra = chance.choice(
        [b"acl", b"versionId=1", b"uploads", b"tagging", b"a=b", b"Action=AssumeRole", b"attributes", b"x-amz-acl=private"]
    )
    options = [[*pairs, extra], [extra, *pairs]]
    if pairs:
        at = chance.randrange(len(pairs))
        name, _, value = pairs[at].partition(b"=")
        options += [
            pairs[:at] + pairs[at + 1 :],
            [*pairs[:at], name + b"=" + (flipped(value, chance) if value else b"x"), *pairs[at + 1 :]],
            [*pairs[:at], flipped(name, chance) + b"=" + value, *pairs[at + 1 :]],
            [*pairs[:at], name + b"=" + value + b"%20", *pairs[at + 1 :]],
            [*pairs, pairs[at]],
        ]
    new = b"&".join(chance.choice(options))
    return replace(sent, target=path + (b"?" + new if new else b""))


def change_body(sent: Sent, chance: random.Random) -> Sent | None:
    if (
        b"%2Fs3%2F" in sent.target
        or b"AWSAccessKeyId" in sent.target
        or sent.header(b"x-amz-content-sha256")
        in (
            b"UNSIGNED-PAYLOAD",
            UNSIGNED_CHUNKS_TRAILER.encode(),
        )
    ):
        return None
    if not sent.body:
        # Routes without a body: one is there now, and the signature covers that there was none.
        return replace(sent, body=b"x")
    at = chance.randrange(len(sent.body))
    bit = bytes([sent.body[at] ^ (1 << chance.randrange(8))])
    new = chance.choice(
        [sent.body[:at] + bit + sent.body[at + 1 :], sent.body[:at], sent.body + b" ", b"", sent.body * 2, sent.body[at + 1 :]]
    )
    if not same_chunks(new, sent.body):
        return replace(sent, body=new)
    return None


def same_chunks(new: bytes, old: bytes) -> bool:
    """Hex digits of a size, and names of trailers, have no case; a line may end without its carriage return."""
    return new == old or (len(new) == len(old) and new.lower() == old.lower() and new.count(b"chunk-signature") > 0)


def state_another_hash(sent: Sent, chance: random.Random) -> Sent | None:
    modes = [b"UNSIGNED-PAYLOAD", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"]
    modes += [
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        b"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        b"e3b0",
        b"0" * 64,
        b"",
    ]
    modes += [hashlib.sha256(sent.body + b"x").hexdigest().encode()]
    new = chance.choice([mode for mode in modes if mode != sent.header(b"x-amz-content-sha256")])
    return sent.with_header(b"x-amz-content-sha256", new)


def move_credentials(sent: Sent, chance: random.Random) -> Sent | None:
    """The header's signature in the query, in place of the header or beside it."""
    value = sent.header(b"authorization")
    if not value:
        return sent.with_header(
            b"authorization", b"AWS4-HMAC-SHA256 Credential=a/20260101/r/s3/aws4_request, SignedHeaders=host, Signature=0"
        )
    signature = value[-64:]
    credential = value.partition(b"Credential=")[2].partition(b",")[0].replace(b"/", b"%2F")
    query = b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + credential + b"&X-Amz-Date=" + sent.header(b"x-amz-date")
    query += b"&X-Amz-Expires=600&X-Amz-SignedHeaders=" + b"%3B".join(signed_names(sent)) + b"&X-Amz-Signature=" + signature
    old = (
        b"AWSAccessKeyId="
        + KEY.id.encode()
        + b"&Expires=9999999999&Signature="
        + base64.b64encode(bytes.fromhex(signature.decode()))
    )
    moved = replace(sent, target=sent.target + (b"&" if b"?" in sent.target else b"?") + chance.choice([query, old]))
    return chance.choice([moved, moved.with_header(b"authorization", None)])


def change_length(sent: Sent, chance: random.Random) -> Sent | None:
    length = sent.header(b"x-amz-decoded-content-length")
    if not length:
        return None
    return sent.with_header(
        b"x-amz-decoded-content-length", chance.choice([b"0", b"-1", b"", str(int(length) + 1).encode(), b"9" * 30])
    )


MUTATIONS_OF = (
    *(
        change_authorization,
        change_authorization,
        change_service,
        change_signed_headers,
        change_header,
        change_header,
        add_header,
    ),
    *(change_date, change_method, change_path, change_query, change_body, change_body, state_another_hash, move_credentials),
    change_length,
)


def harmless(name: str, sent: Sent, base: Sent) -> bool:
    """What the forms themselves leave open: Version 2 signs neither the host nor, beyond sub-resources, the query's order."""
    if "version 2" in name:
        return sent.method == base.method and _meaning(sent.target) == _meaning(base.target)
    return False


def _meaning(target: bytes) -> tuple[bytes, list[bytes]]:
    """A path as sent and its parameters unescaped, in their order: `%3d` says what `%3D` says."""
    path, _, query = target.partition(b"?")
    return path, [unquote_to_bytes(pair) for pair in query.split(b"&")]


@pytest.mark.parametrize("name", CLASSES)
async def test_no_changed_request_is_carried_out(name: str) -> None:
    door = Door()
    base = CLASSES[name]()
    assert await door.accepts(base), "the unchanged request is good, or this test would prove nothing"
    chance = random.Random(hashlib.sha256(name.encode()).digest())
    accepted, tried = [], 0
    while tried < MUTATIONS:
        mutation = chance.choice(MUTATIONS_OF)
        sent = mutation(base, chance)
        if sent is None or sent == base or harmless(name, sent, base):
            continue
        tried += 1
        if await door.accepts(sent):
            accepted.append((mutation.__name__, dataclasses.asdict(sent) if len(sent.body) < 1000 else sent.target))
    assert accepted == []


@pytest.mark.parametrize("name", [name for name in CLASSES if "version 2" not in name])
@pytest.mark.parametrize("change", ["secret", "account"])
async def test_other_peoples_keys_open_nothing(name: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {id: replace(key, secret=key.secret + "x") for id, key in KEYS.items()} if change == "secret" else {}
    base = CLASSES[name]()
    monkeypatch.setattr("tests.faults.test_signature_mutations.KEYS", wrong)
    assert not await Door().accepts(base)


def clock(ahead: float) -> float:
    return time.time() + ahead


@pytest.mark.parametrize("name", CLASSES)
async def test_old_requests_are_not_carried_out_again(name: str) -> None:
    """A recorded request is good for 15 minutes, a presigned one until it says."""
    door = Door()
    base = CLASSES[name]()
    for seconds, good in ((0, True), (590, True), (901, False), (86_400, False), (-86_400, False)):
        door.world = replace(door.world, now=partial(clock, seconds))
        door.dispatcher = Dispatcher(
            door.world, Router(ServiceModels(SERVICES)), dict.fromkeys(SERVICES, door.counting), cast("Keys", KnownKeys())
        )
        if "version 2" in name and seconds < 0:
            continue  # Version 2 says only when it ends
        if seconds > 600 and KEYS[SESSION.id].expires is not None and SESSION.id.encode() in base.target:
            good = False
        assert await door.accepts(base) == good, seconds


def test_the_classes_cover_every_kind_of_route() -> None:
    assert own_routes.SCOPE == "slipway"
    assert {"json", "query", "runtime", "own route"} < set(CLASSES)
