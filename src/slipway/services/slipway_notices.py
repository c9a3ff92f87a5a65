"""What receivers of SNS messages fetch without a key: the signing certificate, and the links in messages.

SubscribeURL and UnsubscribeURL carry what they prove themselves by: the token that only the endpoint was sent, and the
subscription's ARN with its random part, as on AWS.
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import parse_qs

from slipway.backing.notices_signing import CERTIFICATE_PATH
from slipway.core.sns_messages import LINKS
from slipway.http.messages import Request, Response
from slipway.services import World
from slipway.services.authenticate import Caller
from slipway.services.slipway import Auth, OwnRoute
from slipway.services.sns import links
from slipway.wire.errors import AwsError
from slipway.wire.write_xml import escape

_NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"


async def certificate(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """PEM of the certificate whose key signs SNS messages."""
    if world.seal is None:
        return Response(404, [], b"")
    headers = [(b"content-type", b"application/x-pem-file"), (b"cache-control", b"max-age=3600")]
    return Response(200, headers, await asyncio.to_thread(world.seal.certificate))


async def link(world: World, request: Request, caller: Caller | None, match: re.Match[bytes]) -> Response:
    """`?Action=ConfirmSubscription&TopicArn=…&Token=…` or `?Action=Unsubscribe&SubscriptionArn=…`."""
    query = request.target.partition(b"?")[2][:4096].decode("latin-1")
    action = ""
    try:
        given = _fields(query)
        action = given.get("Action", "")
        if action == "ConfirmSubscription":
            arn = await links.confirm(world, given.get("TopicArn", ""), given.get("Token", ""))
            return _xml(200, action, f"<{action}Result><SubscriptionArn>{escape(arn)}</SubscriptionArn></{action}Result>")
        if action == "Unsubscribe":
            await links.unsubscribe(world, given.get("SubscriptionArn", ""))
            return _xml(200, action, "")
        raise AwsError("InvalidAction", "This link has no action that slipway knows.", status=400)
    except AwsError as error:
        text = f"<Error><Type>Sender</Type><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message></Error>"
        body = f'<ErrorResponse xmlns="{_NAMESPACE}">{text}</ErrorResponse>'
        return Response(error.status or 400, [(b"content-type", b"text/xml")], body.encode())


def _fields(query: str) -> dict[str, str]:
    try:
        return {name: values[0] for name, values in parse_qs(query, max_num_fields=10).items()}
    except ValueError:
        raise AwsError("MalformedQueryString", "The link has too many fields.", status=400) from None


def _xml(status: int, action: str, inside: str) -> Response:
    body = f'<{action}Response xmlns="{_NAMESPACE}">{inside}</{action}Response>'
    return Response(status, [(b"content-type", b"text/xml"), (b"cache-control", b"no-store")], body.encode())


ROUTES = (
    OwnRoute("GET", re.compile(re.escape(CERTIFICATE_PATH.encode())), Auth.OPEN, certificate),
    OwnRoute("GET", re.compile(re.escape(LINKS.encode())), Auth.TOKEN, link),
)
