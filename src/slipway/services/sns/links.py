"""What the links in messages do, and the operations of the same names: confirm by token, unsubscribe by ARN."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import replace

from slipway.core.sns_messages import SUBSCRIPTION, UNSUBSCRIPTION
from slipway.services import World
from slipway.services.sns.addresses import invalid, no_subscription
from slipway.store import topics, topics_outbox
from slipway.store.db import Connection
from slipway.store.topics import Subscription
from slipway.wire.errors import AwsError

TOKEN_BYTES = 64
TOKEN_SECONDS = 2 * 86_400.0
"""How long a token is good (AWS: two days)."""
_TOKEN_LENGTH = 2 * TOKEN_BYTES


def new_arn(topic: str) -> str:
    return f"{topic}:{uuid.uuid4()}"


def ask(connection: Connection, row: Subscription, now: float, kind: str = SUBSCRIPTION) -> Subscription:
    """Send the endpoint a fresh token; the subscription as it then is. A confirmation that still waits is replaced."""
    token = secrets.token_hex(TOKEN_BYTES)
    asked = replace(row, token=topics.token_digest(token), token_expires=now + TOKEN_SECONDS)
    topics.save(connection, asked)
    topics_outbox.drop(connection, row.arn, kind)
    topics_outbox.put(connection, row.arn, str(uuid.uuid4()), kind, {"token": token, "at": now}, now)
    return asked


async def confirm(world: World, topic: str, token: str, authenticated: str = "") -> str:
    """The ARN of the subscription that the token confirms; again and again the same. AwsError InvalidParameter."""
    if len(token) != _TOKEN_LENGTH:
        raise invalid("Token")
    now = world.now()

    def write(connection: Connection) -> str:
        found = topics.by_token(connection, topic, token)
        if found is None:
            raise invalid("Token")
        if found.state != "confirmed":
            if found.token_expires is not None and found.token_expires <= now:
                raise invalid("Token")
            topics.save(connection, replace(found, state="confirmed", authenticated=authenticated))
        return found.arn

    return await world.db.write(write)


async def unsubscribe(world: World, arn: str) -> None:
    """By anyone who has the link, but for those with AuthenticateOnUnsubscribe; the endpoint is told, and may return."""
    now = world.now()

    def write(connection: Connection) -> None:
        found = topics.subscription(connection, arn)
        if found is None or found.state == "gone":
            raise no_subscription()
        if found.authenticated == "locked":
            raise AwsError("AuthorizationError", "This subscription is unsubscribed by its owner only.", status=403)
        if found.protocol not in ("http", "https") or found.state != "confirmed":
            topics.unsubscribe(connection, arn)
            return
        topics_outbox.drop(connection, arn)
        ask(connection, replace(found, state="gone"), now, UNSUBSCRIPTION)

    await world.db.write(write)
