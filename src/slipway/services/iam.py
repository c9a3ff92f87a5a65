"""AWS Identity and Access Management: the few operations that SDKs and notebooks call on the way to an endpoint.

slipway evaluates no policies. Every well-formed role name is a role that SageMaker may assume, so that an unchanged script
works whatever role it names; roles that are created, and policies given to them, are kept and given back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from slipway.names import partition
from slipway.services import Context
from slipway.services.sts import unique_id
from slipway.store import resources
from slipway.store.db import Connection
from slipway.store.resources import Query, Resource
from slipway.wire.errors import AwsError

KIND = "iam-role"
REGION = "aws-global"
"""IAM knows no regions; the rows stand under this word."""
ROLES = 1000
"""Of one account: AWS's default quota."""
POLICY_BYTES = 10_240
"""Of one role's inline policies together."""

_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
)
_POLICY_ARN = re.compile(r"arn:aws[a-z-]*:iam::(aws|\d{12}):policy/(?:[\x21-\x7e]+/)?([\w+=,.@-]{1,128})", re.ASCII)


async def get_role(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    return {"Role": _described(await _read(ctx, request["RoleName"]))}


async def list_roles(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """The roles that were created; those that merely exist because somebody may name them are not listed."""
    query = Query(sort="name", limit=request.get("MaxItems") or 100, token=request.get("Marker"))
    try:
        page = await ctx.world.db.read(lambda c: resources.find(c, ctx.account, REGION, KIND, query))
    except resources.BadToken:
        raise AwsError("ValidationError", "Invalid Marker.", status=400) from None
    prefix = request.get("PathPrefix") or "/"
    roles = [_described(role) for role in page.items if role.spec["Path"].startswith(prefix)]
    return {"Roles": roles, "IsTruncated": page.token is not None, **({"Marker": page.token} if page.token else {})}


async def create_role(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Kept, with its trust policy, description and tags."""
    name = request["RoleName"]
    _check_document(request["AssumeRolePolicyDocument"])
    if request.get("PermissionsBoundary"):
        raise AwsError("InvalidInput", "slipway does not implement PermissionsBoundary of CreateRole", status=400)
    new = _fresh(ctx, name, request.get("Path") or "/")
    new.spec["AssumeRolePolicyDocument"] = request["AssumeRolePolicyDocument"]
    for member in ("Description", "MaxSessionDuration", "Tags"):
        if request.get(member):
            new.spec[member] = request[member]

    def write(connection: Connection) -> None:
        _check_quota(connection, ctx)
        try:
            resources.add(connection, new)
        except resources.Exists:
            raise AwsError("EntityAlreadyExists", f"Role with name {name} already exists.", status=409) from None

    await ctx.world.db.write(write)
    return {"Role": _described(new)}


async def delete_role(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Refused while policies are attached, as on AWS."""

    def write(connection: Connection) -> None:
        role = resources.get(connection, ctx.account, REGION, KIND, request["RoleName"])
        if role is None:
            raise _no_such(f"The role with name {request['RoleName']} cannot be found.")
        for member, verb in (("attached", "detach"), ("policies", "delete")):
            if role.spec[member]:
                raise AwsError("DeleteConflict", f"Cannot delete entity, must {verb} all policies first.", status=409)
        resources.remove(connection, role.arn)

    await ctx.world.db.write(write)
    return {}


async def attach_role_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = _policy_arn(request["PolicyArn"])
    await _change(ctx, request["RoleName"], lambda spec: {**spec, "attached": sorted({*spec["attached"], arn})})
    return {}


async def detach_role_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    arn = _policy_arn(request["PolicyArn"])

    def detached(spec: dict[str, Any]) -> dict[str, Any]:
        if arn not in spec["attached"]:
            raise _no_such(f"Policy {arn} was not found.")
        return {**spec, "attached": [other for other in spec["attached"] if other != arn]}

    await _change(ctx, request["RoleName"], detached)
    return {}


async def list_attached_role_policies(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    role = await _read(ctx, request["RoleName"])
    attached = [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in role.spec["attached"]]
    return {"AttachedPolicies": attached, "IsTruncated": False}


async def put_role_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Kept and given back; it changes nothing of what the role may do."""
    _check_document(request["PolicyDocument"])

    def put(spec: dict[str, Any]) -> dict[str, Any]:
        policies = {**spec["policies"], request["PolicyName"]: request["PolicyDocument"]}
        if sum(len(document) for document in policies.values()) > POLICY_BYTES:
            message = f"Maximum policy size of {POLICY_BYTES} bytes exceeded for role {request['RoleName']}"
            raise AwsError("LimitExceeded", message, status=409)
        return {**spec, "policies": policies}

    await _change(ctx, request["RoleName"], put)
    return {}


async def get_role_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    role = await _read(ctx, request["RoleName"])
    document = role.spec["policies"].get(request["PolicyName"])
    if document is None:
        raise _no_such(f"The role policy with name {request['PolicyName']} cannot be found.")
    return {"RoleName": role.name, "PolicyName": request["PolicyName"], "PolicyDocument": quote(document, safe="")}


async def delete_role_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    def deleted(spec: dict[str, Any]) -> dict[str, Any]:
        if request["PolicyName"] not in spec["policies"]:
            raise _no_such(f"The role policy with name {request['PolicyName']} cannot be found.")
        return {**spec, "policies": {name: text for name, text in spec["policies"].items() if name != request["PolicyName"]}}

    await _change(ctx, request["RoleName"], deleted)
    return {}


async def list_role_policies(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    role = await _read(ctx, request["RoleName"])
    return {"PolicyNames": sorted(role.spec["policies"]), "IsTruncated": False}


async def get_user(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """The caller; slipway keeps no users."""
    kind, _, name = ctx.principal.rpartition(":")[2].partition("/")
    asked = request.get("UserName")
    if asked and (kind != "user" or name.rpartition("/")[2] != asked):
        raise _no_such(f"The user with name {asked} cannot be found.")
    if kind == "assumed-role":
        message = "Must specify userName when calling with non-User credentials"
        raise AwsError("ValidationError", message, status=400)
    user = {"Path": "/", "UserId": unique_id("AIDA", ctx.account, name) if name else ctx.account, "Arn": ctx.principal}
    return {"User": {**user, "UserName": name or "root", "CreateDate": _EPOCH}}


async def simulate_principal_policy(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Everything is allowed: SDK v3 asks before it builds a model. Pages of 100, so that an answer has a bound."""
    actions, names = request["ActionNames"], request.get("ResourceArns") or ["*"]
    marker = request.get("Marker") or "0"
    if not re.fullmatch("[0-9]{1,12}", marker):
        raise AwsError("ValidationError", "Invalid Marker.", status=400)
    start = int(marker)
    end = min(start + (request.get("MaxItems") or 100), len(actions) * len(names))
    results = [
        {
            "EvalActionName": actions[at // len(names)],
            "EvalResourceName": names[at % len(names)],
            "EvalDecision": "allowed",
            "MatchedStatements": [],
        }
        for at in range(start, end)
    ]
    more = end < len(actions) * len(names)
    return {"EvaluationResults": results, "IsTruncated": more, **({"Marker": str(end)} if more else {})}


_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
"""When what nobody created was created."""


def _fresh(ctx: Context, name: str, path: str = "/") -> Resource:
    arn = f"arn:{partition(ctx.region)}:iam::{ctx.account}:role{path}{name}"
    spec: dict[str, Any] = {"Path": path, "AssumeRolePolicyDocument": _TRUST, "attached": [], "policies": {}}
    now = ctx.world.now()
    return Resource(ctx.account, REGION, KIND, name, arn, spec, created=now, modified=now)


async def _read(ctx: Context, name: str) -> Resource:
    role = await ctx.world.db.read(lambda c: resources.get(c, ctx.account, REGION, KIND, name))
    return role or replace(_fresh(ctx, name), created=_EPOCH.timestamp())


async def _change(ctx: Context, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change a role; one that was not created yet becomes a row, if the change can be made."""

    def write(connection: Connection) -> None:
        while True:
            old = resources.get(connection, ctx.account, REGION, KIND, name)
            if old is None:
                _check_quota(connection, ctx)
                fresh = _fresh(ctx, name)
                with suppress(resources.Exists):  # another process was faster: change what it wrote
                    resources.add(connection, replace(fresh, spec=change(fresh.spec)))
                    return
                continue
            new = replace(old, spec=change(old.spec), generation=old.generation + 1, modified=ctx.world.now())
            if resources.save(connection, old, new):
                return

    await ctx.world.db.write(write)


def _check_quota(connection: Connection, ctx: Context) -> None:
    if resources.count(connection, ctx.account, REGION, KIND) >= ROLES:
        raise AwsError("LimitExceeded", f"Cannot exceed quota for RolesPerAccount: {ROLES}", status=409)


def _described(role: Resource) -> dict[str, Any]:
    given: dict[str, Any] = {name: role.spec[name] for name in ("Description", "Tags") if name in role.spec}
    return {
        "Path": role.spec["Path"],
        "RoleName": role.name,
        "RoleId": unique_id("AROA", role.account, role.name),
        "Arn": role.arn,
        "CreateDate": datetime.fromtimestamp(int(role.created), UTC),
        "AssumeRolePolicyDocument": quote(role.spec["AssumeRolePolicyDocument"], safe=""),
        "MaxSessionDuration": role.spec.get("MaxSessionDuration", 3600),
        **given,
    }


def _policy_arn(arn: str) -> str:
    if not _POLICY_ARN.fullmatch(arn):
        raise AwsError("InvalidInput", f"ARN {arn[:200]} is not valid.", status=400)
    return arn


def _check_document(text: str) -> None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "Statement" not in document:
        raise AwsError("MalformedPolicyDocument", "This policy contains invalid Json", status=400)


def _no_such(message: str) -> AwsError:
    return AwsError("NoSuchEntity", message, status=404)
