"""S3's errors, each with its status and AWS's text, so that they read the same wherever they are raised."""

from __future__ import annotations

import errno
from typing import Any

from slipway.wire.errors import AwsError

ObjectsError = AwsError
"""What an object store raises, for those who use one and speak no AWS otherwise: `code`, `message` and `status` as S3's."""

_ERRORS = {
    "AccessDenied": (403, "Access Denied"),
    "BadDigest": (400, "The Content-MD5 or checksum value that you specified did not match what the server received."),
    "BadRequest": (400, "Bad Request"),
    "BucketAlreadyExists": (
        409,
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system."
        " Please select a different name and try again.",
    ),
    "BucketAlreadyOwnedByYou": (409, "Your previous request to create the named bucket succeeded and you already own it."),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty"),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "IllegalLocationConstraintException": (400, "The location constraint is incompatible with the region of this request."),
    "IncompleteBody": (400, "You did not provide the number of bytes specified by the Content-Length HTTP header"),
    "InsufficientStorage": (
        507,
        "The disk that holds the objects is full; nothing was stored. Free space there and try again.",
    ),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
    "InvalidLocationConstraint": (400, "The specified location-constraint is not valid"),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified"
        " entity tag may not match the part's entity tag.",
    ),
    "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
    ),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidTag": (400, "The tag provided was not a valid tag. This error can occur if the tag did not pass input validation."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "Your key is too long"),
    "MalformedXML": (400, "The XML you provided was not well-formed or did not validate against our published schema"),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size"),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
    ),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
    "NotModified": (304, "Not Modified"),
    "OperationAborted": (
        409,
        "A conflicting conditional operation is currently in progress against this resource. Please try again.",
    ),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "ServiceUnavailable": (503, "The object store cannot be reached. Please try again."),
}


def s3_error(code: str, message: str | None = None, **members: Any) -> AwsError:
    """`members` become elements of the error document (Key, BucketName, Condition …); `message` replaces AWS's text."""
    status, text = _ERRORS[code]
    return AwsError(code, message or text, status=status, **members)


def no_such_bucket(bucket: str) -> AwsError:
    return s3_error("NoSuchBucket", BucketName=bucket)


def no_such_key(key: str) -> AwsError:
    return s3_error("NoSuchKey", Key=key)


def precondition_failed(condition: str) -> AwsError:
    """`condition`: the header that did not hold (`If-Match`)."""
    return s3_error("PreconditionFailed", Condition=condition)


def disk_error(error: OSError) -> AwsError:
    """What a failed write to disk is to the caller."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return s3_error("InsufficientStorage" if full else "InternalError")
