"""The endpoint operations through boto3; a scripted keeper stands where replicas would start."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway.core.limits import Quotas
from slipway.core.replicas import Failure
from slipway.services.sagemaker import endpoints
from slipway.store.scaling import Target, put_target
from tests.aws.cloud import Cloud
from tests.aws.sagemaker_requests import IMAGE, Hands, SageMaker
from tests.aws.test_sagemaker_models import refused
from tests.unit.control.world import HANGS


@pytest.fixture
def sm(cloud: Cloud) -> SageMaker:
    made = SageMaker(cloud)
    made.model()
    made.config()
    return made


@pytest.fixture
def hands(cloud: Cloud) -> Hands:
    return Hands(cloud)


def test_create_describe_list(sm: SageMaker, hands: Hands, cloud: Cloud) -> None:
    arn = sm.endpoint("My-Endpoint", Tags=[{"Key": "k", "Value": "v"}])
    assert arn == sm.arn("endpoint", "my-endpoint")
    assert cloud.wakes == [("endpoint", arn)]
    found = sm.describe("MY-endpoint")
    assert (found["EndpointName"], found["EndpointStatus"], found["EndpointConfigName"]) == ("My-Endpoint", "Creating", "c")
    assert "ProductionVariants" not in found
    assert "FailureReason" not in found
    hands.settle("my-endpoint")
    found = sm.describe("My-Endpoint")
    assert found["EndpointStatus"] == "InService"
    (variant,) = found["ProductionVariants"]
    assert variant["DeployedImages"][0]["SpecifiedImage"] == IMAGE
    assert {k: v for k, v in variant.items() if k != "DeployedImages"} == {
        "VariantName": "AllTraffic",
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 1,
        "DesiredInstanceCount": 1,
    }
    assert found["LastModifiedTime"] >= found["CreationTime"]
    assert sm.client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]
    listed = sm.client.list_endpoints(StatusEquals="InService", NameContains="endpoint", SortBy="Status")["Endpoints"]
    assert [(e["EndpointName"], e["EndpointArn"], e["EndpointStatus"]) for e in listed] == [("My-Endpoint", arn, "InService")]
    assert sm.client.list_endpoints(StatusEquals="Failed")["Endpoints"] == []
    assert len(sm.client.list_endpoints(LastModifiedTimeAfter=found["CreationTime"])["Endpoints"]) == 1
    sm.client.get_waiter("endpoint_in_service").wait(EndpointName="My-Endpoint")


def test_create_checks(sm: SageMaker) -> None:
    missing = f'Could not find endpoint configuration "{sm.arn("endpoint-config", "none")}".'
    assert refused(sm.client.create_endpoint, EndpointName="e", EndpointConfigName="none") == missing
    sm.endpoint("E")
    existing = f'Cannot create already existing endpoint "{sm.arn("endpoint", "e")}".'
    assert refused(sm.client.create_endpoint, EndpointName="e", EndpointConfigName="c") == existing
    sm.client.delete_model(ModelName="m")
    assert "Could not find model" in refused(sm.client.create_endpoint, EndpointName="f", EndpointConfigName="c")
    assert refused(sm.client.describe_endpoint, EndpointName="f") == f'Could not find endpoint "{sm.arn("endpoint", "f")}".'


def test_in_progress_is_not_updated_but_deleted(sm: SageMaker, hands: Hands) -> None:
    sm.endpoint()
    busy = f'Cannot update in-progress endpoint "{sm.arn("endpoint", "e")}".'
    assert refused(sm.client.update_endpoint, EndpointName="e", EndpointConfigName="c") == busy
    change = [{"VariantName": "AllTraffic", "DesiredWeight": 1.0}]
    assert (
        refused(sm.client.update_endpoint_weights_and_capacities, EndpointName="e", DesiredWeightsAndCapacities=change) == busy
    )
    sm.client.delete_endpoint(EndpointName="E")
    assert sm.describe()["EndpointStatus"] == "Deleting"
    hands.settle()
    assert "Could not find endpoint" in refused(sm.client.describe_endpoint, EndpointName="e")
    sm.client.get_waiter("endpoint_deleted").wait(EndpointName="e")
    assert "Could not find endpoint" in refused(sm.client.delete_endpoint, EndpointName="e")


def test_a_failure_says_why(sm: SageMaker, hands: Hands) -> None:
    hands.keeper.script["AllTraffic"] = Failure("import-error", "No module named 'x'", mend="Add x to requirements.txt")
    sm.endpoint()
    hands.settle()
    found = sm.describe()
    assert found["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in found["FailureReason"]
    assert "Add x to requirements.txt" in found["FailureReason"]
    assert "Failed status" in refused(sm.client.update_endpoint, EndpointName="e", EndpointConfigName="c")


def test_update_and_its_rollback(sm: SageMaker, hands: Hands) -> None:
    sm.endpoint()
    hands.settle()
    sm.config("next", sm.variant(InitialInstanceCount=2, InitialVariantWeight=3.0))
    hands.keeper.script["AllTraffic"] = HANGS
    sm.client.update_endpoint(EndpointName="e", EndpointConfigName="next")
    hands.settle()
    found = sm.describe()
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("Updating", "c")
    pending = found["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "next"
    assert pending["ProductionVariants"][0]["DesiredInstanceCount"] == 2
    assert found["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Updating"
    sm.client.delete_endpoint(EndpointName="e")
    hands.settle()
    hands.keeper.script.clear()
    sm.endpoint()
    hands.settle()
    hands.keeper.script["AllTraffic"] = Failure("exited", "It ended with exit code 3", exit_code=3)
    sm.client.update_endpoint(EndpointName="e", EndpointConfigName="next")
    hands.settle()
    found = sm.describe()
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "c")
    assert "exit code 3" in found["FailureReason"]


def test_an_update_needs_the_old_configuration(sm: SageMaker, hands: Hands) -> None:
    sm.endpoint()
    hands.settle()
    sm.config("next")
    sm.client.delete_endpoint_config(EndpointConfigName="c")
    message = refused(sm.client.update_endpoint, EndpointName="e", EndpointConfigName="next")
    assert message == f'Could not find endpoint configuration "{sm.arn("endpoint-config", "c")}".'


def test_retained_properties(sm: SageMaker, hands: Hands) -> None:
    sm.endpoint()
    hands.settle()
    change = [{"VariantName": "AllTraffic", "DesiredWeight": 5.0, "DesiredInstanceCount": 3}]
    sm.client.update_endpoint_weights_and_capacities(EndpointName="e", DesiredWeightsAndCapacities=change)
    hands.settle()

    def shown() -> tuple[float, int]:
        (variant,) = sm.describe()["ProductionVariants"]
        return variant["CurrentWeight"], variant["CurrentInstanceCount"]

    assert shown() == (5.0, 3)
    sm.client.update_endpoint(EndpointName="e", EndpointConfigName="c", RetainAllVariantProperties=True)
    hands.settle()
    assert shown() == (5.0, 3)
    sm.client.update_endpoint(
        EndpointName="e",
        EndpointConfigName="c",
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )
    hands.settle()
    assert shown() == (1.0, 3)
    sm.client.update_endpoint(EndpointName="e", EndpointConfigName="c")
    hands.settle()
    assert shown() == (1.0, 1)


def test_a_variant_that_is_scaled_stays_and_keeps_its_instance_type(sm: SageMaker, hands: Hands, cloud: Cloud) -> None:
    arn = sm.endpoint()
    hands.settle()
    place = (cloud.account, cloud.region, "endpoint/e/variant/AllTraffic", "sagemaker:variant:DesiredInstanceCount")
    target = Target(*place, "arn:target", arn, 0.0, "AllTraffic", 1, 2, "role", {}, 0.0)
    cloud.run(cloud.world.db.write(lambda c: put_target(c, target)))
    sm.config("larger", sm.variant(InstanceType="ml.m5.xlarge"))
    sm.config("other", sm.variant("Other"))
    sm.config("same", sm.variant(InitialInstanceCount=2))
    for config in ("larger", "other"):
        message = refused(sm.client.update_endpoint, EndpointName="e", EndpointConfigName=config)
        assert message.startswith('The variant(s) "AllTraffic" must be deregistered as scalable targets')
    sm.client.update_endpoint(EndpointName="e", EndpointConfigName="same")


def test_weights_and_capacities_checks(sm: SageMaker, hands: Hands) -> None:
    sm.endpoint()
    hands.settle()
    call = sm.client.update_endpoint_weights_and_capacities

    def message(*changes: dict[str, Any]) -> str:
        return refused(call, EndpointName="e", DesiredWeightsAndCapacities=list(changes))

    one = {"VariantName": "AllTraffic", "DesiredWeight": 1.0}
    assert message(one, one) == 'The variant name "AllTraffic" was non-unique within the request.'
    assert message({"VariantName": "X"}) == 'The variant name(s) "X" is/are not present within endpoint configuration "c".'
    assert "greater than or equal to 1" in message({"VariantName": "AllTraffic", "DesiredInstanceCount": 0})
    assert "ServerlessUpdateConfig" in message({"VariantName": "AllTraffic", "ServerlessUpdateConfig": {"MaxConcurrency": 1}})
    assert sm.describe()["EndpointStatus"] == "InService"


def test_deployment_configs(sm: SageMaker, hands: Hands) -> None:
    def policy(kind: str, **more: Any) -> dict[str, Any]:
        return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": kind, "WaitIntervalInSeconds": 0}, **more}}

    plain = policy("ALL_AT_ONCE")
    sm.endpoint(DeploymentConfig=plain)
    hands.settle()
    assert sm.describe()["LastDeploymentConfig"] == plain
    call = sm.client.update_endpoint
    for config, words in (
        (policy("CANARY"), "Type is CANARY"),
        (policy("LINEAR"), "Type is LINEAR"),
        (policy("ALL_AT_ONCE", TerminationWaitInSeconds=60), "TerminationWaitInSeconds"),
        ({**plain, "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}, "AutoRollbackConfiguration.Alarms.1"),
        (
            {"RollingUpdatePolicy": {"MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1}, "WaitIntervalInSeconds": 0}},
            "RollingUpdatePolicy",
        ),
    ):
        assert words in refused(call, EndpointName="e", EndpointConfigName="c", DeploymentConfig=config)
    call(EndpointName="e", EndpointConfigName="c", RetainDeploymentConfig=True)
    hands.settle()
    assert sm.describe()["LastDeploymentConfig"] == plain
    call(EndpointName="e", EndpointConfigName="c")
    hands.settle()
    assert "LastDeploymentConfig" not in sm.describe()


def test_quotas(sm: SageMaker) -> None:
    sm.config("large", sm.variant(InitialInstanceCount=Quotas().instances_per_type))
    sm.endpoint("first", "large")
    with pytest.raises(sm.client.exceptions.ResourceLimitExceeded) as caught:
        sm.endpoint("second")
    assert caught.value.response["Error"]["Message"].startswith(
        "The account-level service limit 'ml.m5.large for endpoint usage' is 100 Instances, with current utilization of 100 "
        "Instances and a request delta of 1 Instances."
    )
    assert [e["EndpointName"] for e in sm.client.list_endpoints()["Endpoints"]] == ["first"]


def test_later_operations_are_named_as_not_built(sm: SageMaker) -> None:
    with pytest.raises(ClientError) as caught:
        sm.client.list_model_packages()
    assert "ListModelPackages" in caught.value.response["Error"]["Message"]
    assert not hasattr(endpoints, "list_model_packages")
