"""Amazon SNS over `store.topics`: standard topics, delivered to queues and over HTTP; FIFO topics are refused by name.

Nothing is delivered over email, SMS, Lambda, Firehose or to phones. A subscription by email is taken and stays unconfirmed, as
on AWS when nobody reads the message; the others are refused, because they would lose messages.
"""

from __future__ import annotations

from slipway.services.sns.publishing import publish, publish_batch
from slipway.services.sns.subscription_attributes import get_subscription_attributes, set_subscription_attributes
from slipway.services.sns.subscriptions import (
    confirm_subscription,
    list_subscriptions,
    list_subscriptions_by_topic,
    subscribe,
    unsubscribe,
)
from slipway.services.sns.tagging import list_tags_for_resource, tag_resource, untag_resource
from slipway.services.sns.topics import (
    create_topic,
    delete_topic,
    get_topic_attributes,
    list_topics,
    set_topic_attributes,
)

__all__ = [
    "confirm_subscription",
    "create_topic",
    "delete_topic",
    "get_subscription_attributes",
    "get_topic_attributes",
    "list_subscriptions",
    "list_subscriptions_by_topic",
    "list_tags_for_resource",
    "list_topics",
    "publish",
    "publish_batch",
    "set_subscription_attributes",
    "set_topic_attributes",
    "subscribe",
    "tag_resource",
    "unsubscribe",
    "untag_resource",
]
