"""The door: every route has a way in, no unsigned request gets through, and refusals read as AWS's."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import UNSIGNED, xform_name
from botocore.auth import S3SigV4Auth as S3Auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from slipway.core.routing import Key
from slipway.services.own_routes import ROUTES
from slipway.services.slipway import DATA_SERVICES, Auth
from slipway.store import resources
from slipway.store.resources import ReplicaRow
from tests.aws.cloud import MODULES, SERVICES, Cloud, ServerThread, new_key
from tests.deadlines import PATIENCE


def fetch(url: str, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> tuple[int, bytes]:
    """A request as it is, no client's help."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.putrequest(method, target, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body or method in ("POST", "PUT"):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def signed_fetch(cloud: Cloud, target: str, key: Key | None = None, service: str = "slipway") -> tuple[int, bytes]:
    key = key or cloud.key
    request = AWSRequest(method="GET", url=cloud.url + target)
    SigV4Auth(Credentials(key.id, key.secret, key.token), service, cloud.region).add_auth(request)
    return fetch(cloud.url, "GET", target, dict(request.headers.items()))


def refused(call: Any, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


# ---- every route


def sample(shape: Any, name: str = "", depth: int = 0) -> Any:
    """The least that botocore's serializer takes for a shape."""
    match shape.type_name:
        case "structure":
            if depth > 4:
                return {}
            return {member: sample(shape.members[member], member, depth + 1) for member in shape.required_members}
        case "list":
            return [sample(shape.member, name, depth + 1)]
        case "map":
            return {}
        case "integer" | "long":
            return shape.metadata.get("min", 1)
        case "float" | "double":
            return 1.0
        case "boolean":
            return True
        case "timestamp":
            return 1_700_000_000
        case "blob":
            return b"x"
    return "bucket" if name == "Bucket" else "x" * max(8, shape.metadata.get("min", 1))


def served_operations() -> list[tuple[str, str]]:
    """Every operation that has a function, by service."""
    session = boto3.Session()
    found = []
    for service, module in MODULES.items():
        model = session.client(service, region_name="eu-central-1").meta.service_model
        found += [(service, name) for name in model.operation_names if hasattr(module, xform_name(name))]
    return found


def test_there_are_operations_to_look_at() -> None:
    names = served_operations()
    assert len(names) > 60
    assert {service for service, _ in names} == set(MODULES)


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_refuses_the_unsigned_and_the_unknown(cloud: Cloud, service: str) -> None:
    """From botocore's model: all operations of the service, built or not, so that a new one cannot be forgotten."""
    stranger = Key("AKIASTRANGER", "secret", "", "")
    options: dict[str, Any] = {"parameter_validation": False, "inject_host_prefix": False}
    unsigned = cloud.client(service, signature_version=UNSIGNED, **options)
    unknown = cloud.client(service, key=stranger, **options)
    for client, codes in ((unsigned, MISSING), (unknown, UNKNOWN)):
        model = client.meta.service_model
        for name in sorted(model.operation_names)[:: 5 if service == "sagemaker" else 1]:
            operation = model.operation_model(name)
            arguments = sample(operation.input_shape) if operation.input_shape else {}
            if service == "s3" and name in NOT_OVER_HTTP:
                continue
            code, status = refused(getattr(client, xform_name(name)), **arguments)
            assert status in (400, 403), (name, code)
            assert code in (MISSING if operation.auth_type == "none" else codes), (name, code)


NOT_OVER_HTTP = {"SelectObjectContent", "WriteGetObjectResponse", "CreateSession", "ListDirectoryBuckets"}
"""Sent to hosts of AWS whatever the endpoint, or under another service's scope."""
MISSING = {"MissingAuthenticationTokenException", "MissingAuthenticationToken", "AccessDenied", "403"}
UNKNOWN = {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "403"}


def test_every_own_route_names_its_way_in() -> None:
    assert all(isinstance(route.auth, Auth) for route in ROUTES)
    assert [route.path.pattern for route in ROUTES if route.auth is Auth.OPEN] == OPEN


OPEN = [rb"/|/cloudwatch/home", rb"/_slipway/health", rb"/_slipway/sns/SimpleNotificationService\.pem"]
"""Routes that anybody local may fetch: a greeting, a sign of life, the certificate that SNS messages are verified with."""


def test_a_browser_is_told_what_to_type(cloud: Cloud) -> None:
    status, body = fetch(cloud.url, "GET", "/", {"Accept": "text/html,*/*;q=0.8"})
    assert status == 200
    assert b'eval "$(slipway env)"' in body
    assert cloud.url.encode() not in body
    assert b"slipway logs" in fetch(cloud.url, "GET", "/cloudwatch/home?region=us-east-1", {"Accept": "text/html"})[1]
    assert fetch(cloud.url, "GET", "/", {"Accept": "*/*"})[0] == 403
    assert fetch(cloud.url, "GET", "/bucket", {"Accept": "text/html"})[0] == 403
    assert fetch(cloud.url, "POST", "/", {"Accept": "text/html"})[0] in (400, 403)
    assert fetch(cloud.url, "GET", "/", {"Accept": "text/html", "Host": "evil.example"})[0] == 403
    assert fetch(cloud.url, "GET", "/", {"Accept": "text/html", "Origin": "http://evil.example"})[0] == 403


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path.pattern.decode())
def test_every_own_route_refuses_the_unsigned(cloud: Cloud, route: Any) -> None:
    if route.path.fullmatch(b"/"):
        return  # only what a browser asks for, above
    target = re.sub(r"\(.*\)", "i-0123456789abcdef0", route.path.pattern.decode()).replace("\\", "")
    status, body = fetch(cloud.url, route.method, target)
    if route.auth is Auth.OPEN:
        assert status == 200
        assert body.startswith(b"-----BEGIN CERTIFICATE-----") or json.loads(body) == {"status": "ok"}
    else:
        assert status in (400, 403)  # links in SNS messages: without their token they ask for nothing
    for headers in ({"Authorization": "Basic eDp5"}, {"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, {"Authorization": ""}):
        if route.auth is not Auth.OPEN:
            assert fetch(cloud.url, route.method, target, headers)[0] in (400, 403)


@pytest.mark.parametrize(
    "target", ["/", "/bucket", "/bucket/key", "/endpoints/e/invocations", "/nothing?x=1", "/service/a/operation/b"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_unsigned_requests_learn_nothing(cloud: Cloud, method: str, target: str) -> None:
    status, body = fetch(cloud.url, method, target)
    assert status in (400, 403)
    assert b"oken" in body or b"AccessDenied" in body or method == "HEAD"


# ---- refusals in AWS's words


def test_wrong_secret(cloud: Cloud) -> None:
    wrong = Key(cloud.key.id, "wrong", "", "")
    assert refused(cloud.client("sts", key=wrong).get_caller_identity) == ("SignatureDoesNotMatch", 403)
    assert refused(cloud.client("s3", key=wrong).list_buckets) == ("SignatureDoesNotMatch", 403)
    assert refused(cloud.client("sagemaker", key=wrong).list_models) == ("InvalidSignatureException", 400)
    assert refused(cloud.client("logs", key=wrong).describe_log_groups) == ("InvalidSignatureException", 400)


def test_wrong_clock(cloud: Cloud) -> None:
    sts, s3, sagemaker = (cloud.client(name) for name in ("sts", "s3", "sagemaker"))
    with cloud.time_passed(1000):
        assert refused(sts.get_caller_identity) == ("SignatureDoesNotMatch", 403)
        # botocore mends its clock by the answer's Date header and tries S3 again, so the plain request it is
        request = AWSRequest(method="GET", url=cloud.url + "/", headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
        SigV4Auth(Credentials(cloud.key.id, cloud.key.secret), "s3", cloud.region).add_auth(request)
        status, body = fetch(cloud.url, "GET", "/", dict(request.headers.items()))
        assert (status, b"<Code>RequestTimeTooSkewed</Code>" in body) == (403, True)
        assert refused(sagemaker.list_models) == ("InvalidSignatureException", 400)
    assert s3.list_buckets()["Buckets"] == []


def test_a_key_for_data_cannot_touch_the_control_plane(cloud: Cloud) -> None:
    key = new_key(cloud.server, cloud.account, services=DATA_SERVICES)
    assert cloud.client("s3", key=key).list_buckets()["Buckets"] == []
    assert cloud.client("logs", key=key).describe_log_groups()["logGroups"] == []
    assert refused(cloud.client("sagemaker", key=key).list_endpoints) == ("AccessDeniedException", 400)
    assert refused(cloud.client("sts", key=key).get_session_token) == ("AccessDenied", 403)
    assert refused(cloud.client("iam", key=key).list_roles) == ("AccessDenied", 403)
    assert signed_fetch(cloud, "/_slipway/status", key)[0] == 403


def test_the_signature_of_one_service_opens_no_other(cloud: Cloud) -> None:
    assert signed_fetch(cloud, "/_slipway/status", service="s3")[0] == 403
    assert signed_fetch(cloud, "/_slipway/status")[0] == 200


def test_unbuilt_operations_say_so_by_name(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="slipway does not implement SageMaker CreateTrainingPlan yet") as error:
        cloud.client("sagemaker").create_training_plan(TrainingPlanName="x", TrainingPlanOfferingId="x")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert refused(cloud.client("s3").get_bucket_website, Bucket="bucket") == ("NotImplemented", 501)


def test_two_accounts_see_nothing_of_each_other(cloud: Cloud) -> None:
    other = cloud.other_account()
    bucket = f"b-{cloud.account}"
    cloud.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    cloud.client("s3").put_object(Bucket=bucket, Key="k", Body=b"data")
    theirs = cloud.client("s3", key=other)
    assert theirs.list_buckets()["Buckets"] == []
    assert refused(theirs.get_object, Bucket=bucket, Key="k") == ("AccessDenied", 403)
    assert refused(theirs.list_objects_v2, Bucket=bucket) == ("AccessDenied", 403)
    assert refused(theirs.delete_object, Bucket=bucket, Key="k") == ("AccessDenied", 403)


# ---- presigned URLs


@pytest.fixture
def bucket(cloud: Cloud) -> str:
    name = f"presigned-{cloud.account}"
    cloud.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    return name


def target_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_urls(cloud: Cloud, bucket: str, version: str) -> None:
    client = cloud.client("s3", signature_version=version)
    put = target_of(client.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a b/ä+1"}, 60))
    get = target_of(client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a b/ä+1"}, 60))
    assert fetch(cloud.url, "PUT", put, body=b"content")[0] == 200
    assert fetch(cloud.url, "GET", get) == (200, b"content")
    assert fetch(cloud.url, "GET", put)[0] == 403
    assert fetch(cloud.url, "DELETE", get)[0] == 403
    assert fetch(cloud.url, "GET", get.replace("ature=", "ature=A"))[0] == 403
    with cloud.time_passed(62):
        status, body = fetch(cloud.url, "GET", get)
    assert status == 403
    assert b"Request has expired" in body


def test_presigned_version_2_with_a_content_type(cloud: Cloud, bucket: str) -> None:
    client = cloud.client("s3", signature_version="s3")
    arguments = {"Bucket": bucket, "Key": "k", "ContentType": "text/csv", "Metadata": {"a": "b"}}
    put = target_of(client.generate_presigned_url("put_object", arguments, 60))
    assert fetch(cloud.url, "PUT", put, body=b"1,2")[0] == 200
    head = cloud.client("s3").head_object(Bucket=bucket, Key="k")
    assert (head["ContentType"], head["Metadata"]) == ("text/csv", {"a": "b"})
    assert fetch(cloud.url, "PUT", put, {"Content-Type": "text/html"}, b"1,2")[0] == 403


def test_a_body_other_than_the_signed_one_is_not_stored(cloud: Cloud, bucket: str) -> None:
    request = AWSRequest(method="PUT", url=f"{cloud.url}/{bucket}/k", data=b"signed")
    request.context["payload_signing_enabled"] = True
    from_client = cloud.client("s3")
    credentials = Credentials(cloud.key.id, cloud.key.secret)
    S3Auth(credentials, "s3", cloud.region).add_auth(request)
    status, body = fetch(cloud.url, "PUT", f"/{bucket}/k", dict(request.headers.items()), b"Signed")
    assert status == 400
    assert b"<Code>XAmzContentSHA256Mismatch</Code>" in body
    assert refused(from_client.head_object, Bucket=bucket, Key="k")[0] == "404"


# ---- browsers, and --auth none


@pytest.fixture(scope="module")
def open_control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    server = ServerThread(tmp_path_factory.mktemp("open"), auth="none")
    yield server
    server.close()


def test_without_authentication_anybody_local_is_the_account(open_control: ServerThread, aws_session: boto3.Session) -> None:
    for extra in ({"config": Config(signature_version=UNSIGNED)}, {"aws_access_key_id": "any", "aws_secret_access_key": "any"}):
        sts = aws_session.client("sts", endpoint_url=open_control.url, region_name="eu-west-3", **extra)
        assert sts.get_caller_identity()["Account"] == open_control.settings.account
        sts.close()
    s3 = aws_session.client(
        "s3", endpoint_url=open_control.url, region_name="eu-west-3", aws_access_key_id="any", aws_secret_access_key="any"
    )
    s3.create_bucket(Bucket="open-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    s3.put_object(Bucket="open-bucket", Key="k", Body=b"x")
    assert s3.get_bucket_location(Bucket="open-bucket")["LocationConstraint"] == "eu-west-3"
    s3.close()


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
WHO = b"Action=GetCallerIdentity&Version=2011-06-15"


def test_without_authentication_web_pages_stay_out(open_control: ServerThread) -> None:
    url = open_control.url
    own = urlsplit(url).netloc
    assert fetch(url, "POST", "/", FORM, WHO)[0] == 200
    assert fetch(url, "POST", "/", {**FORM, "Origin": f"http://{own}"}, WHO)[0] == 200
    for host in ("localhost", "localhost:4566", "bucket.s3.localhost:4566", "127.0.0.1:1", "[::1]:4566", "LOCALHOST"):
        assert fetch(url, "POST", "/", {**FORM, "Host": host}, WHO)[0] == 200, host
    for host in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evillocalhost",
        "10.0.0.1",
        "",
        "[::1",
        "a:b:c",
    ):
        assert fetch(url, "POST", "/", {**FORM, "Host": host}, WHO)[0] in (400, 403), host
    for method in ("POST", "DELETE", "GET", "PUT"):
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            assert fetch(url, method, "/bucket/key", {**FORM, **headers}, WHO if method == "POST" else b"")[0] in (400, 403)


def test_unsigned_own_routes_are_closed_to_web_pages(cloud: Cloud) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert fetch(cloud.url, "GET", "/_slipway/health", headers)[0] == 403


# ---- our own routes


def test_a_replica_gets_expiring_credentials_for_data_only(cloud: Cloud) -> None:
    replica = f"i-{cloud.account:0>17}"
    spec = {
        "id": replica,
        "account": cloud.account,
        "region": cloud.region,
        "platform": {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "the-token"},
    }
    row = ReplicaRow(replica, "arn", "AllTraffic", 1, spec, 0.0)
    cloud.run(cloud.world.db.write(lambda c: resources.add_replicas(c, [row])))
    target = f"/_slipway/credentials/{replica}"
    for token in ("", "wrong", "the-token2"):
        assert fetch(cloud.url, "GET", target, {"Authorization": token})[0] == 403
    status, body = fetch(cloud.url, "GET", target, {"Authorization": "the-token"})
    assert status == 200
    given = json.loads(body)
    key = Key(given["AccessKeyId"], given["SecretAccessKey"], "", "", given["Token"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", given["Expiration"])
    assert cloud.client("s3", key=key).list_buckets()["Buckets"] == []
    assert refused(cloud.client("sagemaker", key=key).list_models) == ("AccessDeniedException", 400)
    again = json.loads(fetch(cloud.url, "GET", target, {"Authorization": "the-token"})[1])
    assert again == given, "who asks in a loop does not fill the store with keys"
    with cloud.time_passed(2000.0):
        assert json.loads(fetch(cloud.url, "GET", target, {"Authorization": "the-token"})[1])["AccessKeyId"] != key.id
    cloud.run(cloud.world.db.write(lambda c: resources.remove_replicas(c, [replica])))
    assert fetch(cloud.url, "GET", target, {"Authorization": "the-token"})[0] == 403


def test_status_shows_the_callers_endpoints(cloud: Cloud) -> None:
    status, body = signed_fetch(cloud, "/_slipway/status")
    assert status == 200
    assert json.loads(body)["account"] == cloud.account
    assert json.loads(body)["endpoints"] == []
    assert signed_fetch(cloud, "/_slipway/nothing")[0] == 404
