"""The TestNotification that an asynchronous endpoint's topics get when it is created or changed (hosting.md 4.1).

CreateEndpoint, UpdateEndpoint and UpdateEndpointWeightsAndCapacities publish it in the transaction that changes the endpoint.
"""

from __future__ import annotations

from slipway.core.asynchronous import AsyncOptions
from slipway.services import Context
from slipway.store.db import Connection
from slipway.store.topics import Notice, publish
from slipway.wire.errors import validation_exception

TEST_NOTIFICATION = '{"eventVersion":"1.0","eventSource":"aws:sagemaker","eventName":"TestNotification"}'


def probe(connection: Connection, ctx: Context, options: AsyncOptions | None, *, required: bool = True) -> None:
    """Publish to each topic that is configured, once to one that is both.

    `required`: raises ValidationException for a topic that is not there, as AWS refuses to create an endpoint whose topics it
    cannot publish to. A change of capacities goes on without: an endpoint that runs must be scalable.
    """
    topics = (options.success_topic, options.error_topic) if options is not None else ()
    for topic in dict.fromkeys(topic for topic in topics if topic):
        told = publish(connection, topic, Notice(TEST_NOTIFICATION), ctx.world.now(), seal=ctx.world.seal)
        if told is None and required:
            raise validation_exception(
                f'There is no topic "{topic}" to publish notifications to. Please ensure the topic exists and the role has '
                f'"sns:Publish" permissions for topic "{topic}".'
            )
