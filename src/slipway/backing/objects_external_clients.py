"""The two clients of an external S3, loaded when there is one, and their failures in S3's terms."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slipway.backing.objects_errors import s3_error
from slipway.wire.errors import AwsError

if TYPE_CHECKING:
    from obstore.store import S3Store

THREADS = 16
"""Calls of botocore's client at a time."""


def called(call: Any, parameters: dict[str, Any]) -> Any:
    import botocore.exceptions as failures  # noqa: PLC0415 - only where the client is loaded

    try:
        return call(**parameters)
    except failures.ClientError as error:
        detail = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        raise AwsError(str(detail.get("Code", "InternalError")), str(detail.get("Message", "")), status=status) from error
    except failures.BotoCoreError as error:
        raise s3_error("ServiceUnavailable", "The external S3 cannot be reached. Please try again.") from error


def connect(endpoint: str, access_key: str, secret_key: str, region: str) -> Any:
    from botocore.config import Config  # noqa: PLC0415 - 30 MB that the embedded store does not need
    from botocore.session import Session  # noqa: PLC0415

    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=5,
        read_timeout=60,
        retries={"max_attempts": 3, "mode": "standard"},
        max_pool_connections=THREADS,
    )
    return Session().create_client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        config=config,
    )


def store_of(endpoint: str, keys: tuple[str, str], region: str, bucket: str) -> S3Store:
    from obstore.store import S3Store  # noqa: PLC0415 - as elsewhere here

    def credentials() -> Any:
        """Ours, whatever the process environment says."""
        return {"access_key_id": keys[0], "secret_access_key": keys[1], "token": None, "expires_at": None}

    return S3Store(
        bucket,
        endpoint=endpoint,
        region=region,
        virtual_hosted_style_request=False,
        credential_provider=credentials,
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
        client_options={"allow_http": endpoint.startswith("http://"), "connect_timeout": "5s", "timeout": "1h"},
    )


def translated(error: Exception) -> AwsError:
    """obstore's exceptions in S3's terms."""
    codes = {
        "FileNotFoundError": "NoSuchKey",
        "NotFoundError": "NoSuchKey",
        "AlreadyExistsError": "PreconditionFailed",
        "PreconditionError": "PreconditionFailed",
        "PermissionDeniedError": "AccessDenied",
        "PermissionError": "AccessDenied",
        "UnauthenticatedError": "AccessDenied",
    }
    code = codes.get(type(error).__name__)
    return s3_error(code) if code else s3_error("ServiceUnavailable", "The external S3 did not do what was asked.")
