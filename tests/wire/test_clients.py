"""Oracle: real boto3 clients, whose requests are answered by our codec before they reach a socket."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from slipway.wire.errors import AwsError
from slipway.wire.eventstream import exception_frame, payload_part
from slipway.wire.models import streaming_input
from slipway.wire.parse import parse
from slipway.wire.rendered import Rendered
from slipway.wire.route import Route, Unroutable
from slipway.wire.serialize import serialize, serialize_error
from slipway.wire.validate import validate

from .exchange import ROUTER

NOW = datetime(2024, 5, 1, 10, 0, 0, 123000, tzinfo=UTC)
Operation = Callable[[Route, dict[str, Any]], dict[str, Any]]


class Raw(io.BytesIO):
    """What botocore takes for urllib3's response."""

    def stream(self, amount: int = 65536, decode_content: bool = False) -> Iterator[bytes]:
        while piece := self.read(amount):
            yield piece


class Service:
    """Answers a client's requests by `operation`; keeps the routes and parameters it saw."""

    def __init__(self, name: str, operation: Operation, **config: Any) -> None:
        self.operation = operation
        self.seen: list[tuple[Route | None, dict[str, Any]]] = []
        self.client: Any = boto3.client(
            name,
            region_name="eu-central-1",
            endpoint_url="http://localhost:4566",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}, **config),
        )
        self.client.meta.events.register("before-send", self.answer)

    def answer(self, request: AWSPreparedRequest, **context: Any) -> AWSResponse:
        rendered = self.handle(request)
        body = rendered.stream if rendered.stream is not None else rendered.body
        headers = {name.decode(): value.decode() for name, value in rendered.headers}
        return AWSResponse(request.url, rendered.status, headers, Raw(body))

    def handle(self, request: AWSPreparedRequest) -> Rendered:
        url = urlsplit(request.url)
        target = (url.path + (f"?{url.query}" if url.query else "")).encode()
        headers = [(key.lower().encode(), v if isinstance(v, bytes) else str(v).encode()) for key, v in request.headers.items()]
        headers.append((b"host", url.netloc.encode()))
        body = request.body.read() if hasattr(request.body, "read") else request.body or b""
        body = body.encode() if isinstance(body, str) else body
        scope = dict(headers)[b"authorization"].split(b"/")[3].decode()
        route = None
        try:
            route = ROUTER.route(request.method, target, headers, scope)
            if route.operation is None:
                route = ROUTER.query_operation(route, body)
            assert route.operation is not None
            assert route.scope == scope
            params = parse(route, target, headers, b"" if streaming_input(route.operation) else body)
            self.seen.append((route, params))
            validate(route.operation, params)
            return serialize(route, self.operation(route, params), "id-1")
        except AwsError as error:
            return serialize_error(route, None, error, "id-1")


def test_sts() -> None:
    service = Service("sts", lambda route, params: {"Account": "1", "Arn": "a", "UserId": "u"})
    answer = service.client.get_caller_identity()
    assert answer["Account"] == "1"
    assert answer["ResponseMetadata"]["RequestId"] == "id-1"


def test_sagemaker_timestamps_and_validation_errors() -> None:
    service = Service("sagemaker", lambda route, params: {"ModelName": params["ModelName"], "CreationTime": NOW.timestamp()})
    assert service.client.describe_model(ModelName="m")["CreationTime"] == NOW
    with pytest.raises(ClientError) as raised:
        service.client.describe_model(ModelName="m!")
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert raised.value.response["Error"]["Message"].startswith("1 validation error detected: Value 'm!' at 'modelName'")


def test_cloudwatch_gzip_and_query_compatible_errors() -> None:
    def put(route: Route, params: dict[str, Any]) -> dict[str, Any]:
        if len(params["MetricData"]) == 1:
            raise AwsError("InvalidParameterValue", "no")
        return {}

    service = Service("cloudwatch", put)
    points = [{"MetricName": f"m{number}", "Value": 1.5, "Timestamp": NOW} for number in range(500)]
    service.client.put_metric_data(Namespace="n", MetricData=points)
    route, params = service.seen[0]
    assert route is not None
    assert route.gzipped
    assert params["MetricData"] == points
    with pytest.raises(service.client.exceptions.InvalidParameterValueException) as raised:
        service.client.put_metric_data(Namespace="n", MetricData=points[:1])
    assert raised.value.response["Error"]["Code"] == "InvalidParameterValue"
    assert raised.value.response["Error"]["QueryErrorCode"] == "InvalidParameterValueException"


def test_sqs_query_compatible_errors() -> None:
    def missing(route: Route, params: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("QueueDoesNotExist", "The specified queue does not exist.")

    service = Service("sqs", missing)
    with pytest.raises(service.client.exceptions.QueueDoesNotExist) as raised:
        service.client.get_queue_url(QueueName="q")
    assert raised.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_model_error_has_its_members() -> None:
    def fail(route: Route, params: dict[str, Any]) -> dict[str, Any]:
        raise AwsError("ModelError", "m", OriginalStatusCode=400, OriginalMessage="o", LogStreamArn="l", ErrorCode="c")

    service = Service("sagemaker-runtime", fail)
    with pytest.raises(service.client.exceptions.ModelError) as raised:
        service.client.invoke_endpoint(EndpointName="e", Body=b"x")
    response = raised.value.response
    assert (response["OriginalStatusCode"], response["OriginalMessage"], response["LogStreamArn"]) == (400, "o", "l")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["Error"]["Message"] == "m"


def test_invoke_endpoint() -> None:
    result = {"Body": b"\x00raw", "ContentType": "text/csv", "InvokedProductionVariant": "v"}
    service = Service("sagemaker-runtime", lambda route, params: result)
    answer = service.client.invoke_endpoint(EndpointName="e", Body=b"x", ContentType="text/csv", SessionId="NEW_SESSION")
    assert answer["Body"].read() == b"\x00raw"
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/csv", "v")
    assert service.seen[0][1] == {"EndpointName": "e", "ContentType": "text/csv", "SessionId": "NEW_SESSION"}


def test_response_stream() -> None:
    frames = payload_part(b"one") + payload_part(b"\x00" * 70000)
    failure = exception_frame("ModelStreamError", "too slow", "ModelInvocationTimeExceeded")
    service = Service("sagemaker-runtime", lambda route, params: {"Body": frames + failure, "ContentType": "text/plain"})
    answer = service.client.invoke_endpoint_with_response_stream(EndpointName="e", Body=b"x")
    assert answer["ContentType"] == "text/plain"
    events = iter(answer["Body"])
    assert next(events) == {"PayloadPart": {"Bytes": b"one"}}
    assert next(events)["PayloadPart"]["Bytes"] == b"\x00" * 70000
    with pytest.raises(EventStreamError) as raised:
        next(events)
    assert raised.value.response["Error"] == {"Code": "ModelStreamError", "Message": "too slow"}


def test_s3_location_listing_and_missing_key() -> None:
    def answer(route: Route, params: dict[str, Any]) -> dict[str, Any]:
        assert route.operation is not None
        match route.operation.name:
            case "GetBucketLocation":
                return {"LocationConstraint": "eu-central-1"}
            case "ListObjectsV2":
                assert params["EncodingType"] == "url"
                entry = {"Key": "a%2Bb+c", "Size": 3, "ETag": '"x"', "LastModified": NOW, "StorageClass": "STANDARD"}
                return {
                    "Name": "b",
                    "Prefix": "",
                    "Contents": [entry],
                    "IsTruncated": False,
                    "EncodingType": "url",
                    "KeyCount": 1,
                }
            case "HeadObject":
                raise AwsError("NoSuchKey", "The specified key does not exist.")
        raise AwsError("NoSuchKey", "The specified key does not exist.", Key=params["Key"])

    service = Service("s3", answer)
    assert service.client.get_bucket_location(Bucket="b")["LocationConstraint"] == "eu-central-1"
    assert service.client.list_objects_v2(Bucket="b")["Contents"][0]["Key"] == "a+b c"
    with pytest.raises(service.client.exceptions.NoSuchKey) as raised:
        service.client.get_object(Bucket="b", Key="k/ü")
    assert raised.value.response["Error"]["Key"] == "k/ü"
    assert raised.value.response["Error"]["Resource"] == "/b/k/%C3%BC"
    with pytest.raises(ClientError) as raised:
        service.client.head_object(Bucket="b", Key="k")
    assert raised.value.response["Error"]["Code"] == "404"


def test_s3_virtual_hosts_and_multipart() -> None:
    service = Service("s3", lambda route, params: {"UploadId": "u", "ETag": '"e"'}, s3={"addressing_style": "virtual"})
    service.client.create_multipart_upload(Bucket="buck.et", Key="k", Metadata={"a": "1"})
    service.client.upload_part(Bucket="buck.et", Key="k", UploadId="u", PartNumber=1, Body=b"data")
    parts = [{"PartNumber": 1, "ETag": '"e"'}]
    service.client.complete_multipart_upload(Bucket="buck.et", Key="k", UploadId="u", MultipartUpload={"Parts": parts})
    names = [route.operation.name for route, _ in service.seen if route and route.operation]
    assert names == ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
    assert all((params["Bucket"], params["Key"]) == ("buck.et", "k") for _, params in service.seen)
    assert service.seen[0][1]["Metadata"] == {"a": "1"}
    assert service.seen[2][1]["MultipartUpload"] == {"Parts": parts}


def test_unknown_operations_have_their_protocols_code() -> None:
    for target in (b"SageMaker.MakeCoffee", b"DynamoDB_20120810.ListTables"):
        with pytest.raises(Unroutable) as raised:
            ROUTER.route("POST", b"/", [(b"x-amz-target", target)], "sagemaker")
        rendered = serialize_error(None, None, raised.value, "id")
        assert rendered.status == 400
        assert b'"__type":"UnknownOperationException"' in rendered.body
