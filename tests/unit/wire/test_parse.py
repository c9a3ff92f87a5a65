from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.wire import cbor
from slipway.wire.compression import decompress
from slipway.wire.corrections import CATALOG
from slipway.wire.errors import AwsError
from slipway.wire.models import ServiceModels
from slipway.wire.parse import parse
from slipway.wire.route import Route

MODELS = ServiceModels(CATALOG)
Headers = tuple[tuple[bytes, bytes], ...]


def parsed(
    service: str, operation: str, body: bytes = b"", protocol: str = "json", headers: Headers = (), **route: Any
) -> dict[str, Any]:
    found = Route(service, protocol, MODELS.operation(service, operation, protocol), **route)
    return parse(found, b"/", headers, body)


def refused(service: str, operation: str, body: bytes = b"", protocol: str = "json", **more: Any) -> AwsError:
    with pytest.raises(AwsError) as raised:
        parsed(service, operation, body, protocol, **more)
    return raised.value


def model(**members: Any) -> bytes:
    return json.dumps(members).encode()


def test_json_leaves_out_nulls_and_what_it_does_not_know() -> None:
    assert parsed("sagemaker", "CreateModel", model(ModelName="m", Tags=None, Nope={"a": [1]})) == {"ModelName": "m"}
    assert parsed("sagemaker", "CreateModel", b"") == {}
    assert parsed("iam", "GetAccountSummary", b"", "query") == {}


def test_json_keeps_nulls_inside_lists_and_maps_for_the_validator() -> None:
    assert parsed("sagemaker", "CreateModel", model(Containers=[None])) == {"Containers": [None]}
    body = model(PrimaryContainer={"Environment": {"a": None}})
    assert parsed("sagemaker", "CreateModel", body) == {"PrimaryContainer": {"Environment": {"a": None}}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not valid JSON"),
        (b'{"ModelName": "\xff"}', "not valid JSON"),
        (b"[]", "Start of structure or map expected"),
        (b"1", "Start of structure or map expected"),
        (b'{"ModelName": NaN}', "not valid JSON"),
        (b'{"ModelName": 1}', "NUMBER_VALUE can not be converted to a String"),
        (b'{"ModelName": true}', "TRUE_VALUE can not be converted to a String"),
        (b'{"ModelName": {}}', "Start of structure or map found where not expected."),
        (b'{"ModelName": []}', "Start of list found where not expected."),
        (b'{"Containers": {}}', "Expected list or null, found START_OBJECT"),
        (b'{"PrimaryContainer": []}', "Expected structure or map or null, found START_ARRAY"),
        (b'{"PrimaryContainer": "x"}', "Expected structure or map or null, found STRING_VALUE"),
        (b'{"EnableNetworkIsolation": "true"}', "STRING_VALUE can not be converted to a Boolean"),
        (b'{"EnableNetworkIsolation": 0}', "NUMBER_VALUE can not be converted to a Boolean"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_json_of_wrong_types(body: bytes, words: str) -> None:
    error = refused("sagemaker", "CreateModel", body)
    assert (error.code, error.status) == ("SerializationException", 400)
    assert words in error.message


@pytest.mark.parametrize("value", [1, 1.0, 2**31 - 1, -(2**31)])
def test_integers(value: float) -> None:
    assert parsed("sagemaker", "ListModels", model(MaxResults=value)) == {"MaxResults": int(value)}


@pytest.mark.parametrize("value", ["1", 1.5, 2**31, 10**30, 1e300, True, [], {}])
def test_what_is_no_integer(value: Any) -> None:
    assert refused("sagemaker", "ListModels", model(MaxResults=value)).code == "SerializationException"


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1714557600, datetime(2024, 5, 1, 10, tzinfo=UTC)),
        (1714557600.123, datetime(2024, 5, 1, 10, 0, 0, 123000, tzinfo=UTC)),
        ("2024-05-01T12:00:00+02:00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("2024-05-01T10:00:00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("Wed, 01 May 2024 10:00:00 GMT", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("1714557600", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_timestamps(value: Any, moment: datetime) -> None:
    found = parsed("sagemaker", "ListModels", model(CreationTimeAfter=value))["CreationTimeAfter"]
    assert found == moment
    assert found.tzinfo is UTC


@pytest.mark.parametrize("value", ["", "x", "yesterday", "2024-13-01", "1" * 100, "9" * 60, 1e30, -1e18, True, "Foo, 99 Bar"])
def test_what_is_no_timestamp(value: Any) -> None:
    assert refused("sagemaker", "ListModels", model(CreationTimeAfter=value)).code == "SerializationException"


def test_floats_and_blobs() -> None:
    point = {"MetricName": "m", "Value": "NaN", "Counts": [1, "Infinity"]}
    found = parsed("cloudwatch", "PutMetricData", model(Namespace="n", MetricData=[point]))["MetricData"][0]
    assert found["Value"] != found["Value"]
    assert found["Counts"] == [1.0, float("inf")]
    attribute = {"a": {"DataType": "Binary", "BinaryValue": "AAEC"}}
    found = parsed("sqs", "SendMessage", model(MessageAttributes=attribute))
    assert found["MessageAttributes"]["a"]["BinaryValue"] == b"\x00\x01\x02"
    attribute["a"]["BinaryValue"] = "A!"
    assert (
        "STRING_VALUE can not be converted to a Blob"
        in refused("sqs", "SendMessage", model(MessageAttributes=attribute)).message
    )


def test_deep_json_of_a_recursive_shape_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"SubExpressions": [deep]}
    body = model(Resource="Endpoint", SearchExpression=deep)
    assert "nested too deeply" in refused("sagemaker", "Search", body).message


def cbored(value: Any) -> bytes:
    return cbor.encode(value)


def test_cbor_types() -> None:
    moment = datetime(2024, 5, 1, 10, tzinfo=UTC)
    point = {"MetricName": "m", "Value": 1, "Timestamp": moment, "Unknown": b"x", "Unit": None}
    body = cbored({"Namespace": "n", "MetricData": [point]})
    found = parsed("cloudwatch", "PutMetricData", body, "smithy-rpc-v2-cbor")
    assert found == {"Namespace": "n", "MetricData": [{"MetricName": "m", "Value": 1.0, "Timestamp": moment}]}
    assert parsed("cloudwatch", "PutMetricData", b"", "smithy-rpc-v2-cbor") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"\x80",
        b"\xa1",
        cbored({"Namespace": b"bytes"}),
        cbored({"Namespace": 1}),
        cbored({"Namespace": "n"}) + b"\x00",
    ],
)
def test_malformed_cbor(body: bytes) -> None:
    assert refused("cloudwatch", "PutMetricData", body, "smithy-rpc-v2-cbor").code == "SerializationException"


def test_gzip_where_the_operation_has_it() -> None:
    body = gzip.compress(model(Namespace="n"))
    assert parsed("cloudwatch", "PutMetricData", body, gzipped=True) == {"Namespace": "n"}
    assert refused("cloudwatch", "ListMetrics", body, gzipped=True).code == "SerializationException"
    assert refused("cloudwatch", "PutMetricData", b"plain", gzipped=True).code == "SerializationException"
    assert refused("cloudwatch", "PutMetricData", body[:-9], gzipped=True).code == "SerializationException"


def test_a_gzip_bomb_is_refused() -> None:
    bomb = gzip.compress(bytes(2_000_000))
    with pytest.raises(AwsError) as raised:
        decompress(bomb, 1_000_000)
    assert (raised.value.code, raised.value.status) == ("RequestEntityTooLarge", 413)


def form(service: str, operation: str, *pairs: tuple[str, str]) -> dict[str, Any]:
    return parsed(service, operation, b"", "query", query=list(pairs))


def test_query_lists_close_gaps_and_come_in_numbers_order() -> None:
    found = form("iam", "TagRole", *((f"Tags.member.{n}.Key", f"k{n}") for n in (10, 2, 7)))
    assert found == {"Tags": [{"Key": "k2"}, {"Key": "k7"}, {"Key": "k10"}]}
    assert form("iam", "TagRole", ("Tags", "")) == {"Tags": []}
    assert form("sqs", "GetQueueAttributes", ("AttributeName.1", "All")) == {"AttributeNames": ["All"]}
    assert form("sqs", "SetQueueAttributes", ("Attribute.1.Name", "n"), ("Attribute.1.Value", "v")) == {
        "Attributes": {"n": "v"}
    }


@pytest.mark.parametrize(
    ("service", "operation", "pair", "code"),
    [
        ("sts", "AssumeRole", ("DurationSeconds", "x"), "MalformedInput"),
        ("sts", "AssumeRole", ("DurationSeconds", "9" * 50), "MalformedInput"),
        ("sts", "AssumeRole", ("RoleArn.x", "y"), "MalformedInput"),
        ("sts", "AssumeRole", ("Tags.member.x.Key", "y"), "MalformedQueryString"),
        ("sts", "AssumeRole", ("Tags.member.9999999999.Key", "y"), "MalformedQueryString"),
        ("sts", "AssumeRole", ("a." * 1000, "y"), "MalformedQueryString"),
        ("sqs", "SetQueueAttributes", ("Attribute.1.Name", "n"), "MalformedInput"),
        ("iam", "CreateOpenIDConnectProvider", ("ThumbprintList.member.1.x", "n"), "MalformedInput"),
    ],
)
def test_malformed_forms(service: str, operation: str, pair: tuple[str, str], code: str) -> None:
    with pytest.raises(AwsError) as raised:
        form(service, operation, pair)
    assert (raised.value.code, raised.value.status) == (code, 400)


def test_xml_with_namespaces_and_strange_elements() -> None:
    body = (
        b'<?xml version="1.0"?><x:Delete xmlns:x="http://s3.amazonaws.com/doc/2006-03-01/"><Odd/>'
        b"<x:Object><Key> a &amp; b </Key></x:Object><Object><Key>c</Key></Object><Quiet> true </Quiet></x:Delete>"
    )
    found = parsed("s3", "DeleteObjects", body, "rest-xml")
    assert found == {"Delete": {"Objects": [{"Key": " a & b "}, {"Key": "c"}], "Quiet": True}}
    assert parsed("s3", "CreateBucket", b"", "rest-xml", path_params={"Bucket": "b"}) == {"Bucket": "b"}


@pytest.mark.parametrize(
    "body",
    [
        b"<Delete>",
        b"no xml",
        b"<Other/>",
        b"<Delete><Quiet>maybe</Quiet></Delete>",
        b"<Delete><Quiet><a/></Quiet></Delete>",
        b"<Delete><Quiet>true</Quiet><Quiet>true</Quiet></Delete>",
        b'<!DOCTYPE d [<!ENTITY e "x">]><Delete>&e;</Delete>',
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete/>',
        b"<Delete>" + b"<a>" * 100 + b"</a>" * 100 + b"</Delete>",
        b"<Delete>" + b"<a/>" * 500_001 + b"</Delete>",
        b'<?xml version="1.0" encoding="nope"?><Delete/>',
    ],
)
def test_malformed_xml(body: bytes) -> None:
    error = refused("s3", "DeleteObjects", body, "rest-xml")
    assert (error.code, error.status) == ("MalformedXML", 400)


def test_headers() -> None:
    headers: Headers = (
        (b"x-amz-meta-a", b"1"),
        (b"x-amz-meta-b", "ü".encode()),
        (b"x-amz-meta-c", b"\xfc"),
        (b"content-length", b"12"),
        (b"x-amz-server-side-encryption-bucket-key-enabled", b"TRUE"),
        (b"x-amz-meta-a", b"2"),
    )
    found = parsed("s3", "PutObject", b"", "rest-xml", headers)
    assert found == {"Metadata": {"a": "1,2", "b": "ü", "c": "ü"}, "ContentLength": 12, "BucketKeyEnabled": True}


def test_conditions_with_bad_dates_are_no_conditions() -> None:
    headers: Headers = ((b"if-modified-since", b"rubbish"), (b"if-unmodified-since", b"Wed, 01 May 2024 10:00:00 GMT"))
    found = parsed("s3", "GetObject", b"", "rest-xml", headers)
    assert found == {"IfUnmodifiedSince": datetime(2024, 5, 1, 10, tzinfo=UTC)}


def test_lists_in_headers_and_in_the_query() -> None:
    headers: Headers = ((b"x-amz-object-attributes", b'ETag, "a,\\"b" ,Checksum'),)
    assert parsed("s3", "GetObjectAttributes", b"", "rest-xml", headers)["ObjectAttributes"] == ["ETag", 'a,"b', "Checksum"]
    headers = ((b"x-amz-object-attributes", b'ETag,"open'),)
    assert parsed("s3", "GetObjectAttributes", b"", "rest-xml", headers)["ObjectAttributes"] == ["ETag", '"open']


def test_scalars_in_the_query_that_cannot_be_read() -> None:
    error = refused("s3", "ListObjectsV2", b"", "rest-xml", query=[("max-keys", "x")])
    assert (error.code, dict(error.members)) == ("InvalidArgument", {"ArgumentName": "max-keys", "ArgumentValue": "x"})
    headers: Headers = ((b"x-amzn-sagemaker-requestttlseconds", b"x"),)
    error = refused("sagemaker-runtime", "InvokeEndpointAsync", b"", "rest-json", headers=headers)
    assert error.code == "SerializationException"


def test_a_text_payload() -> None:
    assert parsed("s3", "PutBucketPolicy", b'{"a":1}', "rest-xml") == {"Policy": '{"a":1}'}
    assert parsed("s3", "PutBucketPolicy", b"", "rest-xml") == {}
    assert refused("s3", "PutBucketPolicy", b"\xff", "rest-xml").code == "MalformedXML"


def test_rest_json_bodies() -> None:
    body = model(TrialComponentName="t", MetricData=[{"MetricName": "m", "Value": 1, "Timestamp": 1}])
    found = parsed("sagemaker-metrics", "BatchPutMetrics", body, "rest-json")
    assert found["TrialComponentName"] == "t"
    assert parsed("sagemaker-metrics", "BatchPutMetrics", b"", "rest-json") == {}


def test_a_route_without_an_operation_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="query_operation"):
        parse(Route("sts", "query"), b"/", (), b"")


CALLS = [
    ("sagemaker", "CreateEndpointConfig", "json"),
    ("cloudwatch", "PutMetricData", "smithy-rpc-v2-cbor"),
    ("s3", "DeleteObjects", "rest-xml"),
    ("s3", "PutBucketLifecycleConfiguration", "rest-xml"),
    ("sagemaker-metrics", "BatchPutMetrics", "rest-json"),
]
NAMES = ["Namespace", "MetricData", "Dimensions", "Name", "Value", "Values", "Timestamp", "Unit", "StatisticValues"]
TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
PARAMETERS = st.from_regex(r"(Tags|RoleArn|DurationSeconds)(\.(member|1|2|x|Key))*", fullmatch=True)


def outcome(service: str, operation: str, body: bytes, protocol: str, **more: Any) -> str:
    """The code of the refusal, "" where there was none; any other exception is the test's failure."""
    try:
        parsed(service, operation, body, protocol, **more)
    except AwsError as error:
        return error.code
    return ""


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(call=st.sampled_from(CALLS), body=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(call: tuple[str, str, str], body: bytes) -> None:
    service, operation, protocol = call
    assert outcome(service, operation, body, protocol) in ("", "SerializationException", "MalformedXML")


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(tree=st.dictionaries(st.sampled_from(NAMES), TREES, max_size=4))
def test_any_tree_is_read_or_refused(tree: dict[str, Any]) -> None:
    for protocol, body in (("json", json.dumps(tree).encode()), ("smithy-rpc-v2-cbor", cbor.encode(tree))):
        assert outcome("cloudwatch", "PutMetricData", body, protocol) in ("", "SerializationException")


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(PARAMETERS, st.text(max_size=4)), max_size=6))
def test_any_form_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    assert outcome("sts", "AssumeRole", b"", "query", query=pairs) in ("", "MalformedInput", "MalformedQueryString")
