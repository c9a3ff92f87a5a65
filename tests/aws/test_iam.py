"""Roles: any well-formed name is one, created ones are kept, policies change nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.cloud import Cloud

TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
FULL = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"


def code(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    found: str = error.value.response["Error"]["Code"]
    return found


def test_a_role_that_nobody_created_is_there(cloud: Cloud) -> None:
    first = cloud.client("iam").get_role(RoleName="SageMakerRole")["Role"]
    assert first["Arn"] == f"arn:aws:iam::{cloud.account}:role/SageMakerRole"
    assert first["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert len(first["RoleId"]) == 21
    assert cloud.client("iam").get_role(RoleName="SageMakerRole")["Role"] == first
    assert cloud.client("iam").list_roles()["Roles"] == []


def test_created_roles_are_kept_and_given_back(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    made = iam.create_role(RoleName="R", Path="/a/b/", AssumeRolePolicyDocument=json.dumps(TRUST), Description="d")["Role"]
    assert made["Arn"] == f"arn:aws:iam::{cloud.account}:role/a/b/R"
    assert made["AssumeRolePolicyDocument"] == TRUST
    assert iam.get_role(RoleName="R")["Role"] == made
    assert [role["RoleName"] for role in iam.list_roles(PathPrefix="/a/")["Roles"]] == ["R"]
    assert iam.list_roles(PathPrefix="/b/")["Roles"] == []
    assert code(iam.create_role, RoleName="R", AssumeRolePolicyDocument=json.dumps(TRUST)) == "EntityAlreadyExists"
    assert cloud.client("iam", key=cloud.other_account()).list_roles()["Roles"] == []
    iam.delete_role(RoleName="R")
    assert code(iam.delete_role, RoleName="R") == "NoSuchEntity"


def test_listing_comes_in_pages(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    for number in range(5):
        iam.create_role(RoleName=f"R{number}", AssumeRolePolicyDocument=json.dumps(TRUST))
    pages = list(iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 2}))
    assert [[role["RoleName"] for role in page["Roles"]] for page in pages] == [["R0", "R1"], ["R2", "R3"], ["R4"]]
    assert code(iam.list_roles, Marker="nonsense") == "ValidationError"


def test_attached_policies(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.attach_role_policy(RoleName="R", PolicyArn=FULL)
    iam.attach_role_policy(RoleName="R", PolicyArn=FULL)
    listed = iam.list_attached_role_policies(RoleName="R")["AttachedPolicies"]
    assert listed == [{"PolicyName": "AmazonSageMakerFullAccess", "PolicyArn": FULL}]
    assert code(iam.delete_role, RoleName="R") == "DeleteConflict"
    iam.detach_role_policy(RoleName="R", PolicyArn=FULL)
    assert code(iam.detach_role_policy, RoleName="R", PolicyArn=FULL) == "NoSuchEntity"
    assert code(iam.attach_role_policy, RoleName="R", PolicyArn="x" * 20) == "InvalidInput"
    iam.delete_role(RoleName="R")


def test_inline_policies(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.put_role_policy(RoleName="R", PolicyName="p", PolicyDocument=json.dumps(TRUST))
    assert iam.list_role_policies(RoleName="R")["PolicyNames"] == ["p"]
    assert iam.get_role_policy(RoleName="R", PolicyName="p")["PolicyDocument"] == TRUST
    assert code(iam.delete_role, RoleName="R") == "DeleteConflict"
    iam.delete_role_policy(RoleName="R", PolicyName="p")
    assert code(iam.delete_role_policy, RoleName="R", PolicyName="p") == "NoSuchEntity"
    assert code(iam.get_role_policy, RoleName="R", PolicyName="p") == "NoSuchEntity"
    assert code(iam.put_role_policy, RoleName="R", PolicyName="p", PolicyDocument="{") == "MalformedPolicyDocument"
    long = json.dumps({"Statement": ["x" * 10_240]})
    assert code(iam.put_role_policy, RoleName="R", PolicyName="p", PolicyDocument=long) == "LimitExceeded"


def test_everything_is_allowed(cloud: Cloud) -> None:
    arn = f"arn:aws:iam::{cloud.account}:role/R"
    answer = cloud.client("iam").simulate_principal_policy(PolicySourceArn=arn, ActionNames=["s3:GetObject", "sagemaker:*"])
    assert [(one["EvalActionName"], one["EvalDecision"]) for one in answer["EvaluationResults"]] == [
        ("s3:GetObject", "allowed"),
        ("sagemaker:*", "allowed"),
    ]


def test_the_user_is_the_caller(cloud: Cloud) -> None:
    user = cloud.client("iam").get_user()["User"]
    assert user["Arn"] == f"arn:aws:iam::{cloud.account}:root"
    assert code(cloud.client("iam").get_user, UserName="somebody") == "NoSuchEntity"


def test_what_is_not_built_says_so(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="slipway does not implement IAM CreateUser yet"):
        cloud.client("iam").create_user(UserName="u")


def test_a_simulation_has_pages(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    arn = f"arn:aws:iam::{cloud.account}:role/R"
    asked = {
        "PolicySourceArn": arn,
        "ActionNames": [f"s3:A{number}" for number in range(30)],
        "ResourceArns": [f"arn:aws:s3:::b{number}" for number in range(10)],
    }
    first = iam.simulate_principal_policy(**asked)
    assert (len(first["EvaluationResults"]), first["IsTruncated"]) == (100, True)
    pages = iam.get_paginator("simulate_principal_policy").paginate(**asked)
    every = [(one["EvalActionName"], one["EvalResourceName"]) for page in pages for one in page["EvaluationResults"]]
    assert every == [(action, name) for action in asked["ActionNames"] for name in asked["ResourceArns"]]
    assert code(iam.simulate_principal_policy, **asked, Marker="x") == "ValidationError"


def test_roles_that_come_with_their_policies_count_too(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.services.iam.ROLES", 1)
    iam = cloud.client("iam")
    iam.attach_role_policy(RoleName="one", PolicyArn=FULL)
    assert code(iam.attach_role_policy, RoleName="two", PolicyArn=FULL) == "LimitExceeded"
    iam.attach_role_policy(RoleName="one", PolicyArn=FULL)
