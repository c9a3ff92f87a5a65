"""What a multipart upload becomes: its parts held against the caller's list, the ETag and the checksum of the whole."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slipway.backing.objects import ChosenPart, Completion, Part, Upload, Write
from slipway.backing.objects_digests import COMPOSITE, FULL_OBJECT, combined, composite, multipart_etag
from slipway.backing.objects_errors import s3_error

MIN_PART = 5 * 1024 * 1024
"""Bytes of every part but the last."""

MAX_WHOLE = 5 * 1024**4
"""Bytes of a multipart object."""


@dataclass(frozen=True, slots=True)
class Whole:
    size: int
    etag: str
    checksums: Mapping[str, str]
    checksum_type: str | None


def for_upload(upload: Upload, write: Write) -> Write:
    """What a part must promise so that the whole can have its checksum: the upload's algorithm is computed when not sent.

    InvalidRequest when another one is sent.
    """
    if upload.algorithm is None or upload.algorithm in write.checksums:
        return write
    if write.checksums:
        actual = next(iter(write.checksums)).lower()
        raise s3_error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.lower()},"
            f" actual checksum Type: {actual}",
        )
    return replace(write, compute=(*write.compute, upload.algorithm))


def judge(upload: Upload, present: Sequence[Part], completion: Completion) -> Whole:
    """The object that the chosen parts make.

    MalformedXML (no parts), InvalidPartOrder, InvalidPart, EntityTooSmall, EntityTooLarge, InvalidRequest, BadDigest.
    """
    if not completion.parts:
        raise s3_error("MalformedXML")
    numbers = [part.number for part in completion.parts]
    if any(after <= before for before, after in itertools.pairwise(numbers)):
        raise s3_error("InvalidPartOrder", UploadId=upload.id)
    by_number = {part.number: part for part in present}
    chosen = [_matched(upload, by_number.get(wanted.number), wanted) for wanted in completion.parts]
    for part in chosen[:-1]:
        if part.size < MIN_PART:
            raise s3_error(
                "EntityTooSmall", ProposedSize=part.size, MinSizeAllowed=MIN_PART, PartNumber=part.number, ETag=part.etag
            )
    size = sum(part.size for part in chosen)
    if size > MAX_WHOLE:
        raise s3_error("EntityTooLarge", ProposedSize=size, MaxSizeAllowed=MAX_WHOLE)
    if completion.size is not None and completion.size != size:
        raise s3_error("InvalidRequest", "The provided 'x-amz-mp-object-size' header value does not match what was computed.")
    checksums, kind = _checksum(upload, chosen, completion)
    return Whole(size, multipart_etag([part.etag for part in chosen]), checksums, kind)


def _matched(upload: Upload, part: Part | None, wanted: ChosenPart) -> Part:
    """The part that is meant; InvalidPart unless ETag and checksums are its own."""
    if part is None or part.etag != wanted.etag:
        raise s3_error("InvalidPart", UploadId=upload.id, PartNumber=wanted.number, ETag=wanted.etag)
    for algorithm, value in wanted.checksums.items():
        if algorithm in part.checksums and part.checksums[algorithm] != value:
            raise s3_error("InvalidPart", UploadId=upload.id, PartNumber=wanted.number, ETag=wanted.etag)
    if upload.algorithm and upload.checksum_type == COMPOSITE and upload.algorithm not in wanted.checksums:
        raise s3_error(
            "InvalidRequest",
            f"The upload was created using a {upload.algorithm.lower()} checksum. The complete request must include the"
            f" checksum for each part. It was missing for part {wanted.number} in the request.",
        )
    return part


def _checksum(upload: Upload, chosen: Sequence[Part], completion: Completion) -> tuple[dict[str, str], str | None]:
    algorithm, kind = upload.algorithm, upload.checksum_type
    if completion.checksum_type is not None and completion.checksum_type != kind:
        raise s3_error(
            "InvalidRequest",
            f"The upload was created using the {kind or 'null'} checksum mode."
            " The complete request must use the same checksum mode.",
        )
    if algorithm is None:
        return {}, None
    values = [part.checksums[algorithm] for part in chosen]
    if kind == FULL_OBJECT:
        whole = combined(algorithm, [(value, part.size) for value, part in zip(values, chosen, strict=True)])
    else:
        whole = composite(algorithm, values)
    expected = completion.checksums.get(algorithm)
    if expected is not None and expected not in (whole, whole.rpartition("-")[0]):
        raise s3_error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
    return {algorithm: whole}, kind
