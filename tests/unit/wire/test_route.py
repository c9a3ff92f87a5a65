from __future__ import annotations

import gzip

import pytest

from slipway.wire.models import ServiceModels
from slipway.wire.route import Route, Router, Unroutable
from slipway.wire.route_s3 import virtual_host_bucket

FORM = (b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")
CBOR = (b"smithy-protocol", b"rpc-v2-cbor")
SERVED = ("sagemaker", "sagemaker-runtime", "s3", "sts", "iam", "sqs", "cloudwatch")
ROUTER = Router(ServiceModels(SERVED))


def route(method: str, target: bytes, *headers: tuple[bytes, bytes], scope: str | None = None) -> Route:
    return ROUTER.route(method, target, headers, scope)


def refused(method: str, target: bytes, *headers: tuple[bytes, bytes], scope: str | None = None) -> Unroutable:
    with pytest.raises(Unroutable) as raised:
        route(method, target, *headers, scope=scope)
    return raised.value


def name(found: Route) -> str:
    return found.operation.name if found.operation is not None else ""


def test_json_by_target() -> None:
    found = route("POST", b"/", (b"x-amz-target", b"SageMaker.CreateModel"), scope="sagemaker")
    assert (found.service, found.protocol, name(found), found.scope) == ("sagemaker", "json", "CreateModel", "sagemaker")


@pytest.mark.parametrize(
    ("method", "target", "header", "words"),
    [
        ("POST", b"/", b"SageMaker.MakeCoffee", "sagemaker has no operation MakeCoffee"),
        ("POST", b"/", b"DynamoDB_20120810.ListTables", "DynamoDB_20120810.ListTables belongs to a service that is not served"),
        ("POST", b"/", b"Logs_20140328.GetLogEvents", "not served"),
        ("POST", b"/", b"", "not served"),
        ("GET", b"/", b"SageMaker.ListModels", "POST to /"),
        ("POST", b"/x", b"SageMaker.ListModels", "POST to /"),
        ("POST", b"/", b"\xff\xfe.Op", "not served"),
    ],
)
def test_json_that_nobody_answers(method: str, target: bytes, header: bytes, words: str) -> None:
    error = refused(method, target, (b"x-amz-target", header), scope="sagemaker")
    assert (error.code, error.route.protocol) == ("UnknownOperationException", "json")
    assert words in error.message


def test_cbor_by_path() -> None:
    found = route("POST", b"/service/GraniteServiceVersion20100801/operation/PutMetricData", CBOR, scope="monitoring")
    assert (found.service, found.protocol, name(found)) == ("cloudwatch", "smithy-rpc-v2-cbor", "PutMetricData")


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("POST", b"/service/GraniteServiceVersion20100801/operation/Nothing", CBOR),
        ("POST", b"/service/AmazonSQS/operation/ListQueues", CBOR),
        ("GET", b"/service/GraniteServiceVersion20100801/operation/PutMetricData", CBOR),
        ("POST", b"/service/GraniteServiceVersion20100801/operation/PutMetricData", (b"smithy-protocol", b"rpc-v3")),
    ],
)
def test_cbor_that_nobody_answers(method: str, path: bytes, header: tuple[bytes, bytes]) -> None:
    error = refused(method, path, header, scope="monitoring")
    assert (error.code, error.status, error.route.protocol) == ("UnknownOperationException", 404, "smithy-rpc-v2-cbor")


@pytest.mark.parametrize(
    ("tail", "operation"),
    [
        (b"invocations", "InvokeEndpoint"),
        (b"async-invocations", "InvokeEndpointAsync"),
        (b"invocations-response-stream", "InvokeEndpointWithResponseStream"),
    ],
)
@pytest.mark.parametrize("scope", ["sagemaker", None])
def test_runtime_by_path(tail: bytes, operation: str, scope: str | None) -> None:
    found = route("POST", b"/endpoints/bad%20name%21/" + tail, scope=scope)
    assert (found.service, name(found)) == ("sagemaker-runtime", operation)
    assert found.path_params == {"EndpointName": "bad name!"}


def test_a_bucket_called_endpoints_is_s3s_when_signed_so() -> None:
    found = route("PUT", b"/endpoints/x/invocations", scope="s3")
    assert (found.service, name(found), found.path_params) == (
        "s3",
        "PutObject",
        {"Bucket": "endpoints", "Key": "x/invocations"},
    )


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", b"/endpoints/e/invocations", 405),
        ("POST", b"/endpoints/e/nothing", 404),
        ("POST", b"/", 404),
        ("POST", b"/endpoints/%ff/invocations", 400),
    ],
)
def test_runtime_that_nobody_answers(method: str, target: bytes, status: int) -> None:
    error = refused(method, target, scope="sagemaker")
    assert (error.status, error.route.protocol, error.route.service) == (status, "rest-json", "sagemaker-runtime")


def test_a_scope_of_aws_that_is_not_served_is_named() -> None:
    error = refused("GET", b"/2015-03-31/functions/", scope="lambda")
    assert error.route.protocol == "rest-json"
    assert (error.code, error.status) == ("UnknownOperationException", 404)
    assert "'lambda'" in error.message
    assert "sagemaker" in error.message


def test_query_by_scope_and_form() -> None:
    found = route("POST", b"/", FORM, scope="sts")
    assert (found.service, found.protocol, found.operation, found.scope) == ("sts", "query", None, "sts")
    full = ROUTER.query_operation(found, b"Action=GetCallerIdentity&Version=2011-06-15&X=a+b%2B")
    assert name(full) == "GetCallerIdentity"
    assert ("X", "a b+") in full.query


def test_unsigned_forms_are_told_apart_by_version() -> None:
    found = route("POST", b"/", FORM)
    assert (found.service, found.scope) == ("", "")
    assert ROUTER.query_operation(found, b"Action=GetRole&Version=2010-05-08&RoleName=r").service == "iam"
    assert ROUTER.query_operation(found, b"Action=ListQueues&Version=2012-11-05").service == "sqs"


def test_query_by_url() -> None:
    found = route("GET", b"/?Action=GetCallerIdentity&Version=2011-06-15")
    assert (found.service, name(found)) == ("sts", "GetCallerIdentity")


def test_sqs_forms_go_to_a_queues_path() -> None:
    for scope in ("sqs", None):
        found = route("POST", b"/123456789012/queue", FORM, scope=scope)
        assert found.protocol == "query"
    assert name(route("PUT", b"/123456789012/queue", FORM)) == "PutObject"


def test_query_with_gzip() -> None:
    found = route("POST", b"/", FORM, (b"content-encoding", b"gzip"), scope="monitoring")
    full = ROUTER.query_operation(found, gzip.compress(b"Action=PutMetricData&Version=2010-08-01&Namespace=n"))
    assert (full.service, name(full)) == ("cloudwatch", "PutMetricData")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", "MissingAction", "Could not find an Action in the request."),
        (b"Action=Nope&Version=2011-06-15", "InvalidAction", "Could not find operation Nope for version 2011-06-15"),
        (b"Action=AssumeRole&Version=1999", "InvalidAction", "Could not find operation AssumeRole for version 1999"),
        (b"Action=AssumeRole", "InvalidAction", "Could not find operation AssumeRole for version NO_VERSION_SPECIFIED"),
        (b"Action=%ff", "MalformedQueryString", "Couldn't parse the specified URI: it is not UTF-8."),
        (b"a=&" * 20_000, "MalformedQueryString", "More than 20000 fields in one request."),
    ],
)
def test_forms_that_nobody_answers(body: bytes, code: str, message: str) -> None:
    with pytest.raises(Unroutable) as raised:
        ROUTER.query_operation(route("POST", b"/", FORM, scope="sts"), body)
    assert (raised.value.code, raised.value.message, raised.value.status) == (code, message, 400)
    assert raised.value.route.protocol == "query"


def test_other_methods_of_query_services() -> None:
    assert refused("PUT", b"/", scope="sts").code == "InvalidAction"
    assert refused("GET", b"/", scope="sts").code == "MissingAction"


B, K = {"Bucket": "b"}, {"Bucket": "b", "Key": "k"}


@pytest.mark.parametrize(
    ("method", "target", "operation", "params"),
    [
        ("GET", b"/", "ListBuckets", {}),
        ("PUT", b"/b", "CreateBucket", B),
        ("PUT", b"/b/", "CreateBucket", B),
        ("HEAD", b"/b", "HeadBucket", B),
        ("DELETE", b"/b", "DeleteBucket", B),
        ("GET", b"/b", "ListObjects", B),
        ("GET", b"/b?prefix=x&marker=y", "ListObjects", B),
        ("GET", b"/b?list-type=2&prefix=x", "ListObjectsV2", B),
        ("GET", b"/b?location", "GetBucketLocation", B),
        ("GET", b"/b?uploads", "ListMultipartUploads", B),
        ("GET", b"/b?versions", "ListObjectVersions", B),
        ("PUT", b"/b?versioning", "PutBucketVersioning", B),
        ("GET", b"/b?analytics", "ListBucketAnalyticsConfigurations", B),
        ("GET", b"/b?analytics&id=1", "GetBucketAnalyticsConfiguration", B),
        ("GET", b"/b?lifecycle", "GetBucketLifecycleConfiguration", B),
        ("POST", b"/b?delete", "DeleteObjects", B),
        ("POST", b"/b?delete=", "DeleteObjects", B),
        ("PUT", b"/b/k", "PutObject", K),
        ("PUT", b"/b/k?x-id=PutObject&unknown=1", "PutObject", K),
        ("GET", b"/b/k?versionId=v&partNumber=1", "GetObject", K),
        ("HEAD", b"/b/k", "HeadObject", K),
        ("DELETE", b"/b/k", "DeleteObject", K),
        ("PUT", b"/b/k?tagging", "PutObjectTagging", K),
        ("GET", b"/b/k?tagging", "GetObjectTagging", K),
        ("GET", b"/b/k?attributes", "GetObjectAttributes", K),
        ("POST", b"/b/k?uploads", "CreateMultipartUpload", K),
        ("PUT", b"/b/k?partNumber=1&uploadId=u", "UploadPart", K),
        ("GET", b"/b/k?uploadId=u", "ListParts", K),
        ("POST", b"/b/k?uploadId=u", "CompleteMultipartUpload", K),
        ("DELETE", b"/b/k?uploadId=u", "AbortMultipartUpload", K),
        ("GET", b"/b//a/../%2e/k%20+%2B/", "GetObject", {"Bucket": "b", "Key": "/a/.././k ++/"}),
    ],
)
def test_s3(method: str, target: bytes, operation: str, params: dict[str, str]) -> None:
    for scope in ("s3", None):
        found = route(method, target, scope=scope)
        assert (found.service, found.protocol, name(found), found.path_params) == ("s3", "rest-xml", operation, params)


def test_s3_copies_by_header() -> None:
    header = (b"x-amz-copy-source", b"/a/b")
    assert name(route("PUT", b"/b/k", header)) == "CopyObject"
    assert name(route("PUT", b"/b/k?partNumber=1&uploadId=u", header)) == "UploadPartCopy"


@pytest.mark.parametrize(
    ("method", "target", "code", "status"),
    [
        ("POST", b"/b?acl", "MethodNotAllowed", 405),
        ("PUT", b"/b/k?uploads", "MethodNotAllowed", 405),
        ("PATCH", b"/b/k", "MethodNotAllowed", 405),
        ("POST", b"/b/k", "MethodNotAllowed", 405),
        ("DELETE", b"/", "MethodNotAllowed", 405),
        ("GET", b"/b/%ff", "InvalidURI", 400),
        ("GET", b"/b?prefix=%ff", "InvalidURI", 400),
        ("GET", b"//k", "InvalidBucketName", 400),
    ],
)
def test_s3_that_nobody_answers(method: str, target: bytes, code: str, status: int) -> None:
    error = refused(method, target, scope="s3")
    assert (error.code, error.status, error.route.protocol, error.route.service) == (code, status, "rest-xml", "s3")
    assert error.route.resource.encode("latin-1") == target.partition(b"?")[0]


def test_s3_posts_of_browsers_are_not_implemented() -> None:
    error = refused("POST", b"/b", (b"content-type", b"multipart/form-data; boundary=x"))
    assert (error.code, error.status) == ("NotImplemented", 501)


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("localhost:4566", None),
        ("127.0.0.1:4566", None),
        ("[::1]:4566", None),
        ("[::1]", None),
        ("", None),
        ("s3.localhost:4566", None),
        ("s3.eu-west-1.amazonaws.com", None),
        ("b.localhost", "b"),
        ("b.localhost:4566", "b"),
        ("my.bucket.localhost.", "my.bucket"),
        ("b.s3.localhost:4566", "b"),
        ("my.bucket.s3.eu-west-1.amazonaws.com", "my.bucket"),
        ("b.s3-us-west-2.amazonaws.com", "b"),
        ("b.cloud.example", None),
    ],
)
def test_virtual_hosts(host: str, bucket: str | None) -> None:
    assert virtual_host_bucket(host) == bucket


def test_virtual_host_style_requests() -> None:
    found = route("GET", b"/a/k?x-id=GetObject", (b"host", b"b.localhost:4566"), scope="s3")
    assert (name(found), found.path_params) == ("GetObject", {"Bucket": "b", "Key": "a/k"})
    assert route("GET", b"/", (b"host", b"b.localhost")).path_params == B
    own = Router(ServiceModels(("s3",)), domains=("slipway.example",))
    assert own.route("GET", b"/k", [(b"host", b"b.slipway.example")], "s3").path_params == K


def test_without_s3_and_runtime_nothing_is_left() -> None:
    router = Router(ServiceModels(("sts",)))
    for target in (b"/b", b"/endpoints/e/invocations"):
        with pytest.raises(Unroutable) as raised:
            router.route("POST", target, [], None)
        assert raised.value.code == "UnknownOperationException"


def test_the_first_of_two_headers_counts() -> None:
    twice = ((b"x-amz-target", b"SageMaker.ListModels"), (b"x-amz-target", b"SageMaker.DeleteModel"))
    assert name(route("POST", b"/", *twice)) == "ListModels"
