"""What the SageMaker tests ask for again and again, and a control that makes endpoints be what they should in memory."""

from __future__ import annotations

import asyncio
import io
from typing import Any

from slipway.control.changes import Changes
from slipway.control.endpoints import KIND, Endpoints, Surroundings
from slipway.control.instances import Instances
from slipway.control.routes import Routes
from slipway.control.specs import Making
from slipway.core.limits import GIB, InstanceType
from tests.aws.cloud import Cloud
from tests.unit.control.world import FakeFeed, FakeKeeper

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
ROLE = "arn:aws:iam::123456789012:role/service-role/AmazonSageMaker-ExecutionRole"


class SageMaker:
    """A client, the objects that models need, and requests that are right as they are."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.client = cloud.client("sagemaker", parameter_validation=False)
        """What boto3 would refuse itself has to be refused here as well."""
        self.bucket = f"models-{cloud.account}"
        self.data = f"s3://{self.bucket}/model.tar.gz"
        s3 = cloud.client("s3")
        s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": cloud.region})
        s3.put_object(Bucket=self.bucket, Key="model.tar.gz", Body=io.BytesIO(b"archive"))
        self.s3 = s3

    def arn(self, kind: str, name: str) -> str:
        return f"arn:aws:sagemaker:{self.cloud.region}:{self.cloud.account}:{kind}/{name}"

    def container(self, **more: Any) -> dict[str, Any]:
        return {"Image": IMAGE, "ModelDataUrl": self.data, **more}

    def model(self, name: str = "m", **more: Any) -> str:
        request = {"ModelName": name, "PrimaryContainer": self.container(), "ExecutionRoleArn": ROLE, **more}
        answer: str = self.client.create_model(**request)["ModelArn"]
        return answer

    def variant(self, name: str = "AllTraffic", model: str = "m", **more: Any) -> dict[str, Any]:
        request = {"VariantName": name, "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        return {**request, **more}

    def config(self, name: str = "c", *variants: dict[str, Any], **more: Any) -> str:
        request = {"EndpointConfigName": name, "ProductionVariants": list(variants) or [self.variant()], **more}
        answer: str = self.client.create_endpoint_config(**request)["EndpointConfigArn"]
        return answer

    def endpoint(self, name: str = "e", config: str = "c", **more: Any) -> str:
        answer: str = self.client.create_endpoint(EndpointName=name, EndpointConfigName=config, **more)["EndpointArn"]
        return answer

    def describe(self, name: str = "e") -> dict[str, Any]:
        answer: dict[str, Any] = self.client.describe_endpoint(EndpointName=name)
        return answer


class Hands:
    """Does what control would, when told to: looks at an endpoint until there is nothing left to do."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.keeper = FakeKeeper(lambda state: None)
        self.made = 0
        cloud.run(self._build())

    async def _build(self) -> None:
        world = self.cloud.world
        feed = FakeFeed()
        feed.acknowledge.set()
        feed.drain.set()
        self.routes = Routes(feed, lambda arn: None)
        making = Making(self.cloud.url, InstanceType(2, 4 * GIB), 0, 480.0, lambda a, b, k, e: f"/{b}/{k}")
        self.endpoints = Endpoints(
            Surroundings(
                db=world.db,
                instances=Instances(self.keeper, lambda kind, key: None, world.now),
                head=world.objects.head,
                making=making,
                wake=lambda kind, key: None,
                changes=Changes(),
                now=world.now,
                new_id=self._id,
                new_token=lambda: "token",
                keys_gone=lambda: None,
            ),
            self.routes,
        )
        self.keeper.report = self.endpoints.state_changed
        self.routes.open()

    def _id(self) -> str:
        self.made += 1
        return f"i-{self.cloud.account}{self.made:05x}"

    def settle(self, name: str = "e") -> None:
        arn = f"arn:aws:sagemaker:{self.cloud.region}:{self.cloud.account}:{KIND}/{name}"

        async def look() -> None:
            for _ in range(12):
                await self.endpoints.reconcile(arn)
                for _ in range(4):
                    await asyncio.sleep(0)

        self.cloud.run(look())


__all__ = ["IMAGE", "ROLE", "Hands", "SageMaker"]
