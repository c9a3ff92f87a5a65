"""Amazon SageMaker's control plane: one module per resource; here the operations that are served, as the API names them."""

from slipway.services.sagemaker.endpoint_configs import (
    create_endpoint_config,
    delete_endpoint_config,
    describe_endpoint_config,
    list_endpoint_configs,
)
from slipway.services.sagemaker.endpoints import (
    create_endpoint,
    delete_endpoint,
    describe_endpoint,
    list_endpoints,
    update_endpoint,
    update_endpoint_weights_and_capacities,
)
from slipway.services.sagemaker.models import create_model, delete_model, describe_model, list_models
from slipway.services.sagemaker.tags import add_tags, delete_tags, list_tags
from slipway.services.sagemaker.transform_jobs import (
    create_transform_job,
    describe_transform_job,
    list_transform_jobs,
    stop_transform_job,
)

__all__ = [
    "add_tags",
    "create_endpoint",
    "create_endpoint_config",
    "create_model",
    "create_transform_job",
    "delete_endpoint",
    "delete_endpoint_config",
    "delete_model",
    "delete_tags",
    "describe_endpoint",
    "describe_endpoint_config",
    "describe_model",
    "describe_transform_job",
    "list_endpoint_configs",
    "list_endpoints",
    "list_models",
    "list_tags",
    "list_transform_jobs",
    "stop_transform_job",
    "update_endpoint",
    "update_endpoint_weights_and_capacities",
]
