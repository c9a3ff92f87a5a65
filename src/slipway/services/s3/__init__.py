"""Amazon S3 over `backing.objects`: the operations that this product's users need; the rest is answered NotImplemented."""

from __future__ import annotations

from slipway.services.s3.buckets import (
    create_bucket,
    delete_bucket,
    get_bucket_location,
    get_bucket_versioning,
    head_bucket,
    list_buckets,
    put_bucket_versioning,
)
from slipway.services.s3.listing import list_objects, list_objects_v2
from slipway.services.s3.multipart import (
    abort_multipart_upload,
    complete_multipart_upload,
    create_multipart_upload,
    list_multipart_uploads,
    list_parts,
    upload_part,
    upload_part_copy,
)
from slipway.services.s3.notifications import (
    get_bucket_notification_configuration,
    put_bucket_notification_configuration,
)
from slipway.services.s3.reads import get_object, head_object
from slipway.services.s3.tagging import delete_object_tagging, get_object_tagging, put_object_tagging
from slipway.services.s3.writes import copy_object, delete_object, delete_objects, put_object

__all__ = [
    "abort_multipart_upload",
    "complete_multipart_upload",
    "copy_object",
    "create_bucket",
    "create_multipart_upload",
    "delete_bucket",
    "delete_object",
    "delete_object_tagging",
    "delete_objects",
    "get_bucket_location",
    "get_bucket_notification_configuration",
    "get_bucket_versioning",
    "get_object",
    "get_object_tagging",
    "head_bucket",
    "head_object",
    "list_buckets",
    "list_multipart_uploads",
    "list_objects",
    "list_objects_v2",
    "list_parts",
    "put_bucket_notification_configuration",
    "put_bucket_versioning",
    "put_object",
    "put_object_tagging",
    "upload_part",
    "upload_part_copy",
]
