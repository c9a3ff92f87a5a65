"""What botocore's models lack or tell otherwise than the services do: data, and nothing but data.

Four kinds: facts for telling services apart without loading their models; SQS's traits from the time of its query
protocol; codes of errors; names of S3's XML roots. A test compares the first with botocore's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Facts:
    """How requests of one service are recognised."""

    scope: str
    """Name in the credential scope."""
    version: str
    """`apiVersion`, what `Version=` says in the query protocol."""
    protocols: tuple[str, ...]
    """Those that clients are known to use, botocore's own choice first."""
    prefix: str | None = None
    """Of `X-Amz-Target` and of RPC v2's `/service/<prefix>/`."""


CATALOG: Mapping[str, Facts] = {
    "application-autoscaling": Facts("application-autoscaling", "2016-02-06", ("json",), "AnyScaleFrontendService"),
    "cloudwatch": Facts("monitoring", "2010-08-01", ("json", "smithy-rpc-v2-cbor", "query"), "GraniteServiceVersion20100801"),
    "ecr": Facts("ecr", "2015-09-21", ("json",), "AmazonEC2ContainerRegistry_V20150921"),
    "events": Facts("events", "2015-10-07", ("json",), "AWSEvents"),
    "iam": Facts("iam", "2010-05-08", ("query",)),
    "logs": Facts("logs", "2014-03-28", ("json",), "Logs_20140328"),
    "resourcegroupstaggingapi": Facts("tagging", "2017-01-26", ("json",), "ResourceGroupsTaggingAPI_20170126"),
    "s3": Facts("s3", "2006-03-01", ("rest-xml",)),
    "sagemaker": Facts("sagemaker", "2017-07-24", ("json",), "SageMaker"),
    "sagemaker-metrics": Facts("sagemaker", "2022-09-30", ("rest-json",)),
    "sagemaker-runtime": Facts("sagemaker", "2017-05-13", ("rest-json",)),
    "service-quotas": Facts("servicequotas", "2019-06-24", ("json",), "ServiceQuotasV20190624"),
    "sns": Facts("sns", "2010-03-31", ("query",)),
    "sqs": Facts("sqs", "2012-11-05", ("json", "query"), "AmazonSQS"),
    "sts": Facts("sts", "2011-06-15", ("query",)),
}

_SQS_NAMES = {"key": {"locationName": "Name"}, "value": {"locationName": "Value"}}

QUERY_SHAPES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # SQS became a json service and its model forgot how lists and maps were called in forms (SDKs before 2023 send them).
    "sqs": {
        "ActionNameList": {"member": {"locationName": "ActionName"}},
        "AttributeNameList": {"member": {"locationName": "AttributeName"}},
        "AWSAccountIdList": {"member": {"locationName": "AWSAccountId"}},
        "BatchResultErrorEntryList": {"member": {"locationName": "BatchResultErrorEntry"}},
        "BinaryList": {"member": {"locationName": "BinaryListValue"}},
        "ChangeMessageVisibilityBatchRequestEntryList": {
            "member": {"locationName": "ChangeMessageVisibilityBatchRequestEntry"}
        },
        "ChangeMessageVisibilityBatchResultEntryList": {"member": {"locationName": "ChangeMessageVisibilityBatchResultEntry"}},
        "DeleteMessageBatchRequestEntryList": {"member": {"locationName": "DeleteMessageBatchRequestEntry"}},
        "DeleteMessageBatchResultEntryList": {"member": {"locationName": "DeleteMessageBatchResultEntry"}},
        "ListMessageMoveTasksResultEntryList": {"member": {"locationName": "ListMessageMoveTasksResultEntry"}},
        "MessageAttributeNameList": {"member": {"locationName": "MessageAttributeName"}},
        "MessageBodyAttributeMap": _SQS_NAMES,
        "MessageBodySystemAttributeMap": _SQS_NAMES,
        "MessageList": {"member": {"locationName": "Message"}},
        "MessageSystemAttributeMap": _SQS_NAMES,
        "QueueAttributeMap": _SQS_NAMES,
        "QueueUrlList": {"member": {"locationName": "QueueUrl"}},
        "SendMessageBatchRequestEntryList": {"member": {"locationName": "SendMessageBatchRequestEntry"}},
        "SendMessageBatchResultEntryList": {"member": {"locationName": "SendMessageBatchResultEntry"}},
        "StringList": {"member": {"locationName": "StringListValue"}},
        "TagKeyList": {"member": {"locationName": "TagKey"}},
        "TagMap": {"key": {"locationName": "Key"}, "value": {"locationName": "Value"}},
    },
}

QUERY_MEMBERS: Mapping[str, Mapping[str, str]] = {
    # Shape of a member to the member's name in SQS forms and answers.
    "sqs": {
        "MessageBodyAttributeMap": "MessageAttribute",
        "MessageBodySystemAttributeMap": "MessageSystemAttribute",
        "MessageSystemAttributeMap": "Attribute",
        "QueueAttributeMap": "Attribute",
        "TagMap": "Tag",
    },
}

QUERY_NAMESPACES: Mapping[str, str] = {"sqs": "http://queue.amazonaws.com/doc/2012-11-05/"}

QUERY_CODES: Mapping[str, Mapping[str, str]] = {
    # Shape of an error to its code in the query protocol, where the model does not say (`x-amzn-query-error`).
    "sqs": {
        "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
        "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
        "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
        "KmsAccessDenied": "KMS.AccessDeniedException",
        "KmsDisabled": "KMS.DisabledException",
        "KmsInvalidKeyUsage": "KMS.InvalidKeyUsageException",
        "KmsInvalidState": "KMS.InvalidStateException",
        "KmsNotFound": "KMS.NotFoundException",
        "KmsOptInRequired": "KMS.OptInRequired",
        "KmsThrottled": "KMS.ThrottlingException",
        "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
        "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
        "QueueDeletedRecently": "AWS.SimpleQueueService.QueueDeletedRecently",
        "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
        "QueueNameExists": "QueueAlreadyExists",
        "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
    },
}

VALIDATION_CODES: Mapping[str, str] = {
    # The code of "N validation errors detected", where it is not ValidationException.
    "cloudwatch": "ValidationError",
    "ecr": "InvalidParameterException",
    "iam": "ValidationError",
    "logs": "InvalidParameterException",
    "s3": "InvalidArgument",
    "sagemaker-runtime": "ValidationError",
    "sns": "InvalidParameter",
    "sqs": "InvalidParameterValue",
    "sts": "ValidationError",
}

FOREIGN_ENUMS = frozenset(
    # Service, operation, member whose values the model takes from another list than the service does: not checked here.
    (("sqs", "ReceiveMessage", "AttributeNames"),)
)

CASELESS_ENUMS = frozenset(("FilterRuleName",))
"""Shapes whose values the service reads in any case."""

S3_VALIDATION: Mapping[str, tuple[str, str]] = {
    # Where S3 has a code and a text of its own for a member whose value its enum lacks.
    "locationConstraint": ("InvalidLocationConstraint", "The specified location-constraint is not valid"),
    "storageClass": ("InvalidStorageClass", "The storage class you specified is not valid"),
}

PATTERNS: Mapping[str, str] = {
    # Patterns that a backtracking matcher would chew on for ever, or that Java alone can read, as their equals.
    r"([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)${1,128}": r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*",
    r"([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)${1,256}": r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*",
    r"^[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*$": r"[a-z0-9*](?:[._\-/]?[a-z0-9*])*",
    r"^[ \t]*[^\x00-\x1F:\x7F]+([ \t]+[^\x00-\x1F:\x7F]+)*[ \t]*$": r"\t*[^\x00-\x1f:\x7f][^\x00-\x08\x0a-\x1f:\x7f]*",
    r"^[ \t]*[\x20-\x7E]+([ \t]+[\x20-\x7E]+)*[ \t]*$": r"\t*[ -~][\t -~]*",
    r"\/?.+\/.+": r".[^/\n]*/.+",
    r"https://([.\-_a-zA-Z0-9]+/?){3,1016}": r"https://(?:[.\-_a-zA-Z0-9]/?){2}[.\-_a-zA-Z0-9](?:/?[.\-_a-zA-Z0-9])*/?",
    r"[a-z0-9]([-a-z0-9]*[a-z0-9]){0,39}?": r"[a-z0-9](?:-*[a-z0-9])*",
}

S3_ROOTS: Mapping[str, str] = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetObjectTagging": "Tagging",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
    "UploadPartCopy": "CopyPartResult",
}

S3_STATUS: Mapping[str, int] = {
    # HTTP status of S3's codes (the model declares few of them); any other is 400.
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "BucketAlreadyExists": 409,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "ConditionalRequestConflict": 409,
    "EntityTooLarge": 400,
    "ExpiredToken": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidObjectState": 403,
    "InvalidRange": 416,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "OperationAborted": 409,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
}

STATUS: Mapping[str, int] = {
    # HTTP status of common codes that no model declares; any other is 400.
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "IncompleteSignature": 400,
    "InternalError": 500,
    "InternalFailure": 500,
    "InternalServerError": 500,
    "InternalServiceError": 500,
    "InvalidClientTokenId": 403,
    "MissingAuthenticationToken": 403,
    "RequestEntityTooLarge": 413,
    "ServiceUnavailable": 503,
    "ServiceUnavailableException": 503,
    "SignatureDoesNotMatch": 403,
}
