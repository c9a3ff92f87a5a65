"""Application Auto Scaling: scalable targets, scaling policies, scheduled actions, activities, tags (hosting.md 6)."""

from slipway.services.application_autoscaling.actions import (
    delete_scheduled_action,
    describe_scheduled_actions,
    put_scheduled_action,
)
from slipway.services.application_autoscaling.activities import describe_scaling_activities
from slipway.services.application_autoscaling.policies import (
    delete_scaling_policy,
    describe_scaling_policies,
    get_predictive_scaling_forecast,
    put_scaling_policy,
)
from slipway.services.application_autoscaling.tags import list_tags_for_resource, tag_resource, untag_resource
from slipway.services.application_autoscaling.targets import (
    deregister_scalable_target,
    describe_scalable_targets,
    register_scalable_target,
)

__all__ = [
    "delete_scaling_policy",
    "delete_scheduled_action",
    "deregister_scalable_target",
    "describe_scalable_targets",
    "describe_scaling_activities",
    "describe_scaling_policies",
    "describe_scheduled_actions",
    "get_predictive_scaling_forecast",
    "list_tags_for_resource",
    "put_scaling_policy",
    "put_scheduled_action",
    "register_scalable_target",
    "tag_resource",
    "untag_resource",
]
