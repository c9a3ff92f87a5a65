"""Elastic Container Registry: slipway keeps no images, and says so in ECR's own terms.

Images of known frameworks resolve to environments (`slipway images`), others to Docker or a directory image, whatever the
registry in their URI; so no repository is ever needed here, and asking for one finds none.
"""

from __future__ import annotations

from typing import Any, NoReturn

from slipway.services import Context
from slipway.wire.errors import AwsError


async def describe_repositories(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    if names := request.get("repositoryNames"):
        _not_found(ctx, names[0], request)
    return {"repositories": []}


async def describe_images(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    _not_found(ctx, request["repositoryName"], request)


async def batch_get_image(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    _not_found(ctx, request["repositoryName"], request)


async def get_authorization_token(ctx: Context, request: dict[str, Any]) -> dict[str, Any]:
    """Refused: a token would send `docker login` to a registry that is not there."""
    message = (
        "slipway keeps no image registry, so there is nothing to log in to. Build or pull the image with Docker on the machine "
        "where slipway runs, or register a folder with `slipway images add`."
    )
    raise AwsError("InvalidParameterException", message, status=400)


def _not_found(ctx: Context, name: str, request: dict[str, Any]) -> NoReturn:
    registry = request.get("registryId") or ctx.account
    message = f"The repository with name '{name}' does not exist in the registry with id '{registry}'"
    raise AwsError("RepositoryNotFoundException", message, status=400)
