"""A transform job as the store keeps it: what its creation planned, and what control has reached."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.core.deployments import Deployment

KIND = "transform-job"
FLEET = "transform-fleet"
"""The job's instances are a row of their own, which control makes be as it makes endpoints be (`control.endpoints`)."""
VARIANT = "instances"


@dataclass(frozen=True, slots=True)
class Planned:
    """`Resource.desired` of a job."""

    deployment: Deployment
    """Of its instances; the model as it was when the job was created."""
    instances: int
    bucket: str
    """Of the input (or its manifest)."""
    key: str
    """Prefix, or the manifest's key."""
    manifest: bool
    output_path: str
    """Key below which outputs go, in `deployment.transform.bucket`."""
    capture_bucket: str = ""
    """Of DataCaptureConfig; empty: nothing is captured."""
    capture_path: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """What a job that captures data will be as soon as its manifests are written."""

    status: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Progress:
    """`Resource.observed` of a job."""

    after: str = ""
    """The last key that was listed."""
    listed: bool = False
    total: int = 0
    started: float | None = None
    """When its first instance could take requests."""
    ended: float | None = None
    ending: Ending | None = None


def fleet_name(job: str) -> str:
    """No endpoint can have such a name."""
    return f"transform-job/{job}"


def host_of(fleet: str, instance: str) -> str | None:
    """`<job>/<instance>`: the dimension Host of its metrics; None: the name is an endpoint's."""
    head, mark, job = fleet.partition("transform-job/")
    return f"{job}/{instance.partition('.')[0]}" if mark and not head else None


def job_of_fleet(arn: str) -> str | None:
    """The ARN of the job, from its fleet's; None for an endpoint's."""
    head, mark, name = arn.partition(f":{FLEET}/transform-job/")
    return f"{head}:{KIND}/{name}" if mark else None


def fleet_of_job(arn: str) -> str:
    head, _, name = arn.partition(f":{KIND}/")
    return f"{head}:{FLEET}/transform-job/{name}"


def log_stream(job: str, instance: str, started: float) -> str:
    """`<job>/<instance>-<epoch>` (containers.md 1.8)."""
    return f"{job}/{instance}-{int(started)}"
