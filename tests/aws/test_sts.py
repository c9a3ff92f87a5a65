"""Who am I, and expiring credentials."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway.core.routing import Key
from tests.aws.cloud import Cloud, new_key


def session_key(credentials: dict[str, Any]) -> Key:
    return Key(credentials["AccessKeyId"], credentials["SecretAccessKey"], "", "", credentials["SessionToken"])


def refused(call: Any, **arguments: Any) -> dict[str, str]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    found: dict[str, str] = error.value.response["Error"]
    return found


def test_caller_identity_is_that_of_the_key(cloud: Cloud) -> None:
    answer = cloud.client("sts").get_caller_identity()
    assert answer["Account"] == cloud.account
    assert answer["Arn"] == f"arn:aws:iam::{cloud.account}:root"
    assert answer["UserId"] == cloud.account
    assert answer["ResponseMetadata"]["RequestId"]


def test_assumed_role_credentials_work_and_name_their_session(cloud: Cloud) -> None:
    role = f"arn:aws:iam::{cloud.account}:role/service-role/Sage"
    answer = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="me", DurationSeconds=900)
    key = session_key(answer["Credentials"])
    left = answer["Credentials"]["Expiration"] - datetime.now(UTC)
    assert timedelta(seconds=880) < left <= timedelta(seconds=900)
    identity = cloud.client("sts", key=key).get_caller_identity()
    assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{cloud.account}:assumed-role/Sage/me"
    assert identity["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"]
    assert cloud.client("s3", key=key).list_buckets()["Buckets"] == []


def test_session_credentials_expire(cloud: Cloud) -> None:
    key = new_key(cloud.server, cloud.account, seconds=60)
    client = cloud.client("sts", key=key)
    client.get_caller_identity()
    with cloud.time_passed(61):
        assert refused(client.get_caller_identity)["Code"] == "ExpiredToken"
        assert refused(cloud.client("s3", key=key).list_buckets)["Code"] == "ExpiredToken"
        assert refused(cloud.client("sagemaker", key=key).list_models)["Code"] == "ExpiredTokenException"


def test_assume_role_stays_in_the_account(cloud: Cloud) -> None:
    other = f"arn:aws:iam::{cloud.other_account().account}:role/Sage"
    error = refused(cloud.client("sts").assume_role, RoleArn=other, RoleSessionName="me")
    assert error["Code"] == "AccessDenied"
    assert error["Message"].endswith(f"is not authorized to perform: sts:AssumeRole on resource: {other}")


@pytest.mark.parametrize("arn", ["arn:aws:iam::1:role/x12345678", "arn:aws:iam::123456789012:user/somebody", "x" * 30])
def test_malformed_role_arns_are_refused(cloud: Cloud, arn: str) -> None:
    assert refused(cloud.client("sts").assume_role, RoleArn=arn, RoleSessionName="me")["Code"] == "ValidationError"


def test_chained_roles_last_an_hour_at_most(cloud: Cloud) -> None:
    role = f"arn:aws:iam::{cloud.account}:role/Sage"
    key = session_key(cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="me")["Credentials"])
    client = cloud.client("sts", key=key)
    assert client.assume_role(RoleArn=role, RoleSessionName="again")["Credentials"]["AccessKeyId"].startswith("ASIA")
    error = refused(client.assume_role, RoleArn=role, RoleSessionName="again", DurationSeconds=3601)
    assert error["Code"] == "ValidationError"
    assert refused(client.get_session_token)["Code"] == "AccessDenied"


@pytest.mark.parametrize("seconds", [899, 43_201])
def test_duration_is_bounded(cloud: Cloud, seconds: int) -> None:
    client = cloud.client("sts", parameter_validation=False)
    role = f"arn:aws:iam::{cloud.account}:role/Sage"
    error = refused(client.assume_role, RoleArn=role, RoleSessionName="me", DurationSeconds=seconds)
    assert error["Code"] == "ValidationError"


def test_session_of_the_caller_itself(cloud: Cloud) -> None:
    key = session_key(cloud.client("sts").get_session_token()["Credentials"])
    assert cloud.client("sts", key=key).get_caller_identity()["Arn"] == f"arn:aws:iam::{cloud.account}:root"
    assert refused(cloud.client("sts", key=key).get_session_token)["Code"] == "AccessDenied", "else it would never end"


def test_a_session_may_call_no_more_than_its_caller(cloud: Cloud) -> None:
    limited = new_key(cloud.server, cloud.account, services=("sts", "s3"))
    key = session_key(cloud.client("sts", key=limited).get_session_token()["Credentials"])
    assert cloud.client("s3", key=key).list_buckets()["Buckets"] == []
    error = refused(cloud.client("sagemaker", key=key).list_models)
    assert error["Code"] == "AccessDeniedException"
    assert "is not authorized to perform: sagemaker:ListModels" in error["Message"]


@pytest.mark.parametrize("member", [{"Policy": "{}"}, {"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}]}])
def test_session_policies_are_refused_by_name(cloud: Cloud, member: dict[str, Any]) -> None:
    role = f"arn:aws:iam::{cloud.account}:role/Sage"
    error = refused(cloud.client("sts").assume_role, RoleArn=role, RoleSessionName="me", **member)
    assert f"slipway does not implement {next(iter(member))}" in error["Message"]


def test_what_is_not_built_says_so(cloud: Cloud) -> None:
    error = refused(cloud.client("sts").get_access_key_info, AccessKeyId=cloud.key.id)
    assert error == {
        "Type": "Sender",
        "Code": "NotImplementedException",
        "Message": "slipway does not implement STS GetAccessKeyInfo yet",
    }
