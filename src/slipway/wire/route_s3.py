"""S3's operations by method, level (service, bucket, object), sub-resource and one header, built from the model.

The model's URI templates carry the static part of the query (`?uploads`, `?list-type=2`); what still looks alike
(GetObject and ListParts, PutObject and UploadPart) differs by required query members, CopyObject by its header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import AwsError
from .shapes import OperationModel, ServiceModel

_COPY = b"x-amz-copy-source"
_S3_HOST = re.compile(r"(?P<bucket>.+?)\.s3(?:[.-].*)")
_SUPERSEDED = frozenset(
    # Forms of one request that the model keeps under two names; the first would win by the alphabet.
    ("GetBucketLifecycle", "GetBucketNotification", "PutBucketLifecycle", "PutBucketNotification", "ListDirectoryBuckets")
)


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    fixed: frozenset[tuple[str, str]]
    """Pairs that the query must hold; an empty value stands for any."""
    needed: frozenset[str]
    """Further names that the query must hold."""
    copies: bool

    def fits(self, query: Mapping[str, str], copies: bool) -> bool:
        return (
            (copies or not self.copies)
            and all(name in query and value in ("", query[name]) for name, value in self.fixed)
            and all(name in query for name in self.needed)
        )

    @property
    def weight(self) -> int:
        return len(self.fixed) + len(self.needed) + self.copies


class S3Routes:
    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._rules: dict[tuple[str, int], list[_Rule]] = {}
        self._sub_resources: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
        for name in model.operation_names:
            if name not in _SUPERSEDED:
                self._add(model.operation_model(name))
        for rules in self._rules.values():
            rules.sort(key=lambda rule: (-rule.weight, rule.name))

    def _add(self, operation: OperationModel) -> None:
        path, _, query = operation.http["requestUri"].partition("?")
        level = {"/": 0, "/{Bucket}": 1, "/{Bucket}/{Key+}": 2}.get(path)
        if level is None:
            return  # WriteGetObjectResponse: another host's
        fixed = frozenset((part.partition("=")[0], part.partition("=")[2]) for part in query.split("&") if part)
        shape = operation.input_shape
        required = [shape.members[name] for name in shape.required_members] if shape is not None else []
        needed = frozenset(m.serialization["name"] for m in required if m.serialization.get("location") == "querystring")
        copies = operation.name in ("CopyObject", "UploadPartCopy")
        rule = _Rule(operation.name, fixed, needed, copies)
        self._rules.setdefault((operation.http["method"], level), []).append(rule)
        self._sub_resources[level].update(name for name, value in fixed if not value)

    def operation(
        self, method: str, level: int, query: Iterable[tuple[str, str]], headers: Mapping[bytes, bytes]
    ) -> OperationModel:
        """`level` is 0 for the service, 1 for a bucket, 2 for an object. AwsError MethodNotAllowed or NotImplemented."""
        values = dict(query)
        copies = _COPY in headers
        named = self._sub_resources[level] & values.keys()
        for rule in self._rules.get((method, level), ()):
            if rule.fits(values, copies) and (not named or not named.isdisjoint(name for name, _ in rule.fixed)):
                return self._model.operation_model(rule.name)
        if method == "POST" and headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data"):
            raise AwsError("NotImplemented", "Uploads by a form (POST) are not implemented.", status=501)
        raise AwsError("MethodNotAllowed", "The specified method is not allowed against this resource.", status=405)


def virtual_host_bucket(host: str, domains: Iterable[str] = ("localhost",)) -> str | None:
    """The bucket in a Host header (`bucket.localhost:4566`, `bucket.s3.eu-west-1.amazonaws.com`), or None for path style.

    A bucket's name may hold dots. `s3.localhost` is a host of its own, no bucket.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    name = name.rstrip(".")
    lowered = name.lower()
    match = _S3_HOST.fullmatch(lowered)
    if match:
        return name[: match.end("bucket")]
    for domain in domains:
        if lowered.endswith("." + domain) and not re.match(r"s3[.-]", lowered):
            return name[: -len(domain) - 1]
    return None
