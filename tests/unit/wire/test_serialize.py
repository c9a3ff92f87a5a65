from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from slipway.wire import cbor
from slipway.wire.corrections import CATALOG
from slipway.wire.errors import AwsError, validation_exception
from slipway.wire.models import ServiceModels
from slipway.wire.rendered import Rendered
from slipway.wire.route import Route
from slipway.wire.serialize import serialize, serialize_error
from slipway.wire.values import iso8601, read_base64, read_float, rfc822, write_float
from slipway.wire.write_xml import escape

MODELS = ServiceModels(CATALOG)
MOMENT = datetime(2024, 5, 1, 10, 0, 0, 123456, tzinfo=UTC)


def route(service: str, operation: str, protocol: str | None = None, **more: Any) -> Route:
    protocol = protocol or CATALOG[service].protocols[0]
    return Route(service, protocol, MODELS.operation(service, operation, protocol), **more)


def answer(service: str, operation: str, result: dict[str, Any], protocol: str | None = None) -> Rendered:
    return serialize(route(service, operation, protocol), result, "id-1")


def header(rendered: Rendered, name: bytes) -> bytes | None:
    return dict(rendered.headers).get(name)


def test_json() -> None:
    result = {"ModelName": "m", "CreationTime": MOMENT, "PrimaryContainer": {"Image": None}, "Odd": 1, "Containers": None}
    rendered = answer("sagemaker", "DescribeModel", result)
    assert json.loads(rendered.body) == {"ModelName": "m", "CreationTime": 1714557600.123, "PrimaryContainer": {}}
    assert header(rendered, b"content-type") == b"application/x-amz-json-1.1"
    assert header(rendered, b"x-amzn-requestid") == b"id-1"
    assert header(answer("sqs", "ListQueues", {}), b"content-type") == b"application/x-amz-json-1.0"


def test_nothing_to_say() -> None:
    assert answer("sagemaker", "DeleteModel", {}).body == b""
    assert answer("s3", "DeleteBucket", {}).body == b""
    assert answer("s3", "DeleteBucket", {}).status == 204
    assert answer("cloudwatch", "PutMetricData", {}, "smithy-rpc-v2-cbor").body == b"\xa0"


def test_the_status_can_be_set() -> None:
    rendered = answer("s3", "GetObject", {"Body": b"x", "ResponseMetadata": {"HTTPStatusCode": 206}})
    assert (rendered.status, rendered.stream, rendered.body) == (206, b"x", b"")
    assert answer("sagemaker-runtime", "InvokeEndpointAsync", {"InferenceId": "i", "OutputLocation": "o"}).status == 202


def test_numbers_that_json_lacks() -> None:
    data = {"MetricDataResults": [{"Id": "a", "Values": [math.nan, math.inf, -math.inf, 1], "Timestamps": [1, 2.5, MOMENT]}]}
    found = json.loads(answer("cloudwatch", "GetMetricData", data).body)["MetricDataResults"][0]
    assert found["Values"] == ["NaN", "Infinity", "-Infinity", 1.0]
    assert found["Timestamps"] == [1.0, 2.5, 1714557600.123]
    found = cbor.decode(answer("cloudwatch", "GetMetricData", data, "smithy-rpc-v2-cbor").body)["MetricDataResults"][0]
    assert found["Values"][1:] == [math.inf, -math.inf, 1.0]
    assert [type(item).__name__ for item in found["Timestamps"]] == ["Epoch"] * 3


def test_query() -> None:
    rendered = answer("sts", "GetCallerIdentity", {"Account": "1", "Arn": "<&>", "UserId": 'a"\r'})
    assert rendered.body.decode() == (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        "<UserId>a&quot;&#13;</UserId><Account>1</Account><Arn>&lt;&amp;&gt;</Arn></GetCallerIdentityResult>"
        "<ResponseMetadata><RequestId>id-1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    )
    assert header(rendered, b"content-type") == b"text/xml"
    assert b"Result>" not in answer("cloudwatch", "PutMetricData", {}, "query").body


def test_s3() -> None:
    entry = {"Key": "k", "LastModified": 1714557600, "Size": 3, "ETag": '"e"'}
    rendered = answer("s3", "ListObjectsV2", {"Name": "b", "Contents": [entry, entry], "IsTruncated": False})
    text = rendered.body.decode()
    assert text.startswith(
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    )
    assert text.count("<Contents><Key>k</Key><LastModified>2024-05-01T10:00:00.000Z</LastModified>") == 2
    assert "<IsTruncated>false</IsTruncated>" in text
    assert header(rendered, b"x-amz-request-id") == b"id-1"
    assert header(rendered, b"content-type") == b"application/xml"


def test_s3_roots_of_payloads_and_text() -> None:
    assert b"<CopyObjectResult><ETag>" in answer("s3", "CopyObject", {"CopyObjectResult": {"ETag": "e"}}).body
    assert answer("s3", "CopyObject", {}).body == b""
    policy = answer("s3", "GetBucketPolicy", {"Policy": "{}"})
    assert policy.body == b"{}"
    location = answer("s3", "GetBucketLocation", {"LocationConstraint": None}).body
    assert location.endswith(b'<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>')


def test_headers_of_a_result() -> None:
    result = {
        "Body": object(),
        "ContentLength": 3,
        "LastModified": MOMENT,
        "ContentType": "a\r\nSet-Cookie: x",
        "Metadata": {"A": "ü"},
        "DeleteMarker": True,
    }
    rendered = answer("s3", "GetObject", result)
    assert header(rendered, b"content-length") == b"3"
    assert header(rendered, b"last-modified") == b"Wed, 01 May 2024 10:00:00 GMT"
    assert header(rendered, b"content-type") == b"a  Set-Cookie: x"
    assert header(rendered, b"x-amz-meta-a") == "ü".encode()
    assert header(rendered, b"x-amz-delete-marker") == b"true"
    assert rendered.stream is result["Body"]


def test_an_event_stream_has_its_type() -> None:
    rendered = answer("sagemaker-runtime", "InvokeEndpointWithResponseStream", {"Body": b"frames", "ContentType": "text/plain"})
    assert header(rendered, b"content-type") == b"application/vnd.amazon.eventstream"
    assert header(rendered, b"x-amzn-sagemaker-content-type") == b"text/plain"


def test_a_listing_of_1000_keys_is_quick() -> None:
    entry = {"Key": "data/part-00000.parquet", "LastModified": MOMENT, "ETag": '"e"', "Size": 1, "StorageClass": "STANDARD"}
    result = {"Name": "b", "Contents": [entry] * 1000}
    answer("s3", "ListObjectsV2", result)
    took = []
    for _ in range(5):
        begun = time.process_time()
        answer("s3", "ListObjectsV2", result)
        took.append(time.process_time() - begun)
    assert min(took) < 0.03  # 5 ms on an idle machine


def test_a_route_without_an_operation_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="operation"):
        serialize(Route("sts", "query"), {}, "id")


def failed(where: Route | None, error: AwsError, protocol: str | None = None) -> Rendered:
    return serialize_error(where, protocol, error, "id-1")


def test_json_errors() -> None:
    rendered = failed(route("sagemaker", "CreateModel"), validation_exception("no"))
    assert (rendered.status, json.loads(rendered.body)) == (400, {"__type": "ValidationException", "message": "no"})
    rendered = failed(route("sagemaker", "DeleteEndpoint"), AwsError("ResourceNotFound", "no", Odd=1, Empty=None))
    assert json.loads(rendered.body) == {"__type": "ResourceNotFound", "Message": "no", "Odd": 1}
    assert failed(None, AwsError("InternalFailure", "no")).status == 500
    assert failed(None, AwsError("X", "no", status=418)).status == 418


def test_a_code_that_names_another_shape_is_no_modelled_error() -> None:
    rendered = failed(route("sagemaker", "CreateModel"), AwsError("CreateModelInput", "no"))
    assert (rendered.status, json.loads(rendered.body)["message"]) == (400, "no")


def test_codes_of_the_former_query_protocol() -> None:
    error = AwsError("AWS.SimpleQueueService.NonExistentQueue", "no")
    rendered = failed(route("sqs", "SendMessage", query_mode=True), error)
    assert json.loads(rendered.body)["__type"] == "QueueDoesNotExist"
    assert header(rendered, b"x-amzn-query-error") == b"AWS.SimpleQueueService.NonExistentQueue;Sender"
    assert header(failed(route("sqs", "SendMessage"), error), b"x-amzn-query-error") is None
    rendered = failed(route("sqs", "SendMessage", "query"), AwsError("QueueDoesNotExist", "no"))
    assert b"<Code>AWS.SimpleQueueService.NonExistentQueue</Code>" in rendered.body
    assert b'xmlns="http://queue.amazonaws.com/doc/2012-11-05/"' in rendered.body


def test_rest_json_errors() -> None:
    rendered = failed(
        route("sagemaker-runtime", "InvokeEndpoint"), AwsError("ModelError", "m", OriginalStatusCode=400, ErrorCode="c")
    )
    assert rendered.status == 424
    assert header(rendered, b"x-amzn-errortype") == b"ModelError"
    assert json.loads(rendered.body) == {"Message": "m", "OriginalStatusCode": 400, "ErrorCode": "c"}


def test_query_errors() -> None:
    rendered = failed(route("iam", "GetRole"), AwsError("NoSuchEntity", "<no>", Odd="&"))
    assert rendered.status == 404
    text = rendered.body.decode()
    assert "<Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>&lt;no&gt;</Message><Odd>&amp;</Odd></Error>" in text
    assert text.endswith("<RequestId>id-1</RequestId></ErrorResponse>")
    rendered = failed(None, AwsError("InternalFailure", "no"), "query")
    assert b"<Type>Receiver</Type>" in rendered.body
    assert b'xmlns="http://webservices.amazon.com/AWSFault/2005-15-09"' in rendered.body


def test_cbor_errors() -> None:
    where = route("cloudwatch", "DescribeAlarmHistory", "smithy-rpc-v2-cbor", query_mode=True)
    rendered = failed(where, AwsError("InvalidNextToken", "no"))
    assert cbor.decode(rendered.body) == {"__type": "InvalidNextToken", "message": "no"}
    assert header(rendered, b"smithy-protocol") == b"rpc-v2-cbor"
    assert header(rendered, b"x-amzn-query-error") == b"InvalidNextToken;Sender"
    assert cbor.decode(failed(None, AwsError("X", "no"), "smithy-rpc-v2-cbor").body)["__type"] == "X"


@pytest.mark.parametrize(
    ("code", "status"),
    [("NoSuchKey", 404), ("AccessDenied", 403), ("PreconditionFailed", 412), ("SlowDown", 503), ("InvalidArgument", 400)],
)
def test_s3_errors(code: str, status: int) -> None:
    rendered = failed(route("s3", "GetObject", resource="/b/k"), AwsError(code, "no", Key="k&"))
    assert rendered.status == status
    assert rendered.body.decode() == (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>no</Message><Key>k&amp;</Key>'
        "<Resource>/b/k</Resource><RequestId>id-1</RequestId><HostId>id-1</HostId></Error>"
    )


def test_s3_errors_without_a_body() -> None:
    assert failed(route("s3", "HeadObject"), AwsError("NoSuchKey", "no")).body == b""
    rendered = failed(route("s3", "GetObject"), AwsError("NotModified", "no"))
    assert (rendered.status, rendered.body) == (304, b"")


def test_values() -> None:
    assert iso8601(MOMENT) == "2024-05-01T10:00:00.123Z"
    assert iso8601(1714557600) == "2024-05-01T10:00:00Z"
    assert iso8601(MOMENT.astimezone(timezone(timedelta(hours=2)))) == "2024-05-01T10:00:00.123Z"
    assert iso8601(datetime(5, 1, 1, tzinfo=UTC).replace(tzinfo=None)) == "0005-01-01T00:00:00Z"
    assert rfc822(1714557600.9) == "Wed, 01 May 2024 10:00:00 GMT"
    assert [write_float(value) for value in (1, 0.25, math.nan, math.inf, -math.inf)] == [
        "1.0",
        "0.25",
        "NaN",
        "Infinity",
        "-Infinity",
    ]
    assert read_float(" -1e3 ") == -1000.0
    assert math.isnan(read_float("NaN"))
    assert read_base64("AAEC\r\nAw==\n") == b"\x00\x01\x02\x03"
    for text in ("", "x", "1_000", "1" * 500, "0x1"):
        with pytest.raises(ValueError, match="not a number"):
            read_float(text)
    assert escape("plain\n\ttext") == "plain\n\ttext"
    assert escape("\x00\r") == "&#0;&#13;"
