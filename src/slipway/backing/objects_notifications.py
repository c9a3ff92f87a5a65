"""Setting a bucket's event notifications, in a transaction: destinations are looked at, and each gets the test event."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slipway.backing.objects_errors import s3_error
from slipway.core import s3_events
from slipway.core.s3_events import BadRules, Origin, Place, Rule
from slipway.store import bucket_notifications
from slipway.store import objects as rows
from slipway.wire.errors import AwsError

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ARN = re.compile(r"arn:[a-z0-9-]+:(sqs|sns):([a-z0-9-]+):(\d{12}):[A-Za-z0-9_.-]{1,256}")
_SERVICES = {"queue": "sqs", "topic": "sns"}


def configure(conn: Connection, place: Place, rules: Sequence[Rule], origin: Origin, now: float, *, validate: bool) -> None:
    """Replace the bucket's rules. InvalidArgument."""
    try:
        s3_events.check(rules)
    except BadRules as error:
        named = {"ArgumentName": error.argument, "ArgumentValue": error.value} if error.argument else {}
        raise s3_error("InvalidArgument", str(error), **named) from None
    for rule in rules:
        _check_target(rule, place)
    if validate:
        text = s3_events.test_message(place, origin, bucket_notifications.new_host(), now)
        for rule in {rule.target: rule for rule in rules}.values():
            if not bucket_notifications.send(conn, rule, [text], origin, now):
                raise _invalid_target(rule, f"The destination {rule.kind} does not exist")
    rows.set_notifications(conn, place.bucket, rules)


def _check_target(rule: Rule, place: Place) -> None:
    match = _ARN.fullmatch(rule.target)
    if match is None or match[1] != _SERVICES[rule.kind]:
        raise s3_error(
            "InvalidArgument",
            "The ARN is not well formed",
            ArgumentName=rule.kind.capitalize(),
            ArgumentValue=rule.target[:256],
        )
    if match[2] != place.region:
        raise s3_error(
            "InvalidArgument",
            "The notification destination service region is not valid for the bucket location constraint",
            ArgumentName=rule.kind.capitalize(),
            ArgumentValue=rule.target,
        )
    if match[3] != place.account:
        raise _invalid_target(rule, f"Permissions on the destination {rule.kind} do not allow S3 to publish notifications from"
                                    " this bucket")  # fmt: skip


def _invalid_target(rule: Rule, why: str) -> AwsError:
    return s3_error(
        "InvalidArgument",
        "Unable to validate the following destination configurations",
        ArgumentName1=rule.target,
        ArgumentValue1=why,
    )
