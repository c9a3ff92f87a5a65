"""Amazon SQS over `store.queues`: durable standard queues, in its json and its query protocol; FIFO is refused by name."""

from __future__ import annotations

from slipway.services.sqs.batches import change_message_visibility_batch, delete_message_batch, send_message_batch
from slipway.services.sqs.messages import change_message_visibility, delete_message, receive_message, send_message
from slipway.services.sqs.queues import (
    create_queue,
    delete_queue,
    get_queue_attributes,
    get_queue_url,
    list_dead_letter_source_queues,
    list_queue_tags,
    list_queues,
    purge_queue,
    set_queue_attributes,
    tag_queue,
    untag_queue,
)

__all__ = [
    "change_message_visibility",
    "change_message_visibility_batch",
    "create_queue",
    "delete_message",
    "delete_message_batch",
    "delete_queue",
    "get_queue_attributes",
    "get_queue_url",
    "list_dead_letter_source_queues",
    "list_queue_tags",
    "list_queues",
    "purge_queue",
    "receive_message",
    "send_message",
    "send_message_batch",
    "set_queue_attributes",
    "tag_queue",
    "untag_queue",
]
