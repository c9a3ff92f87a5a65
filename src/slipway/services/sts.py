"""AWS Security Token Service: who calls, and expiring credentials.

Any well-formed role of the caller's own account can be assumed: slipway evaluates no policies, it only keeps accounts apart.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from datetime import UTC, datetime
from typing import Any

from slipway.core.routing import Key
from slipway.names import partition
from slipway.services import Context
from slipway.store import keys
from slipway.store.db import Connection
from slipway.wire.errors import AwsError

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/(?:[\x21-\x7e]+/)?([\w+=,.@-]{1,64})", re.ASCII)
_CHAINED_SECONDS = 3600
_SESSION_SECONDS = 43_200
_NOT_BUILT = ("Policy", "PolicyArns", "SerialNumber", "TokenCode", "ProvidedContexts")


def unique_id(prefix: str, *parts: str) -> str:
    """IAM's kind of id (`AROA…`, 21 characters), always the same for the same parts."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return prefix + b32encode(digest).decode()[: 21 - len(prefix)]


async def get_caller_identity(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Account, ARN and id of the caller."""
    kind, _, name = ctx.principal.rpartition(":")[2].partition("/")
    if kind == "assumed-role":
        role, _, session = name.partition("/")
        user = f"{unique_id('AROA', ctx.account, role)}:{session}"
    elif kind == "user":
        user = unique_id("AIDA", ctx.account, name)
    else:
        user = ctx.account
    return {"UserId": user, "Account": ctx.account, "Arn": ctx.principal}


async def assume_role(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Session credentials of a role of the caller's account; at most an hour when the caller is a role's session itself."""
    for member in _NOT_BUILT:
        if request.get(member):
            raise AwsError("ValidationError", f"slipway does not implement {member} of AssumeRole", status=400)
    arn, session = request["RoleArn"], request["RoleSessionName"]
    match = _ROLE_ARN.fullmatch(arn)
    if match is None:
        raise AwsError("ValidationError", f"{arn[:200]} is invalid", status=400)
    account, role = match.groups()
    if account != ctx.account:
        message = f"User: {ctx.principal} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        raise AwsError("AccessDenied", message, status=403)
    seconds = request.get("DurationSeconds") or 3600
    if ":assumed-role/" in ctx.principal and seconds > _CHAINED_SECONDS:
        message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        raise AwsError("ValidationError", message, status=400)
    principal = f"arn:{partition(ctx.region)}:sts::{ctx.account}:assumed-role/{role}/{session}"
    answer = {
        "Credentials": await _session(ctx, principal, seconds),
        "AssumedRoleUser": {"AssumedRoleId": f"{unique_id('AROA', account, role)}:{session}", "Arn": principal},
    }
    if source := request.get("SourceIdentity"):
        answer["SourceIdentity"] = source
    return answer


async def get_session_token(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Expiring credentials of the caller itself; 12 hours unless told otherwise."""
    for member in ("SerialNumber", "TokenCode"):
        if request.get(member):
            raise AwsError("ValidationError", f"slipway does not implement {member} of GetSessionToken", status=400)
    if ctx.access_key.startswith("ASIA"):
        raise AwsError("AccessDenied", "Cannot call GetSessionToken with session credentials", status=403)
    return {"Credentials": await _session(ctx, ctx.principal, request.get("DurationSeconds") or _SESSION_SECONDS)}


async def _session(ctx: Context, principal: str, seconds: int) -> dict[str, Any]:
    """Stored before it is told. It may call no more services than the caller."""
    now = ctx.world.now()

    def write(connection: Connection) -> Key:
        caller = keys.get(connection, ctx.access_key, now) if ctx.access_key else None
        if ctx.access_key and caller is None:  # revoked, or run out, since the request was let in
            raise AwsError("ExpiredToken", "The security token included in the request is expired", status=403)
        key = keys.mint_session(ctx.account, principal, now + seconds, caller.services if caller else ())
        keys.add(connection, key, now)
        return key

    key = await ctx.world.db.write(write)
    await ctx.world.keys_changed()
    return {
        "AccessKeyId": key.id,
        "SecretAccessKey": key.secret,
        "SessionToken": key.token,
        "Expiration": datetime.fromtimestamp(int(now + seconds), UTC),
    }
