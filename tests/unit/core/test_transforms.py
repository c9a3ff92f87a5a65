"""Decisions of batch transform: what holds, where outputs go, what a manifest names, what a job that failed says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.core.transform_jobs import fleet_of_job, host_of, job_of_fleet, log_stream
from slipway.core.transforms import (
    BadManifest,
    Counts,
    Effective,
    TransformOptions,
    effective,
    failure_reason,
    folder_of,
    idle_instances,
    manifest_uris,
    output_key,
    parameters_line,
)


@pytest.mark.parametrize(
    ("asked", "told", "workers", "found"),
    [
        ({}, {}, 1, (1, 6, "MultiRecord")),
        ({}, {}, 4, (4, 6, "MultiRecord")),
        ({}, {}, 64, (16, 6, "MultiRecord")),
        ({"payload_mb": 100}, {}, 4, (1, 100, "MultiRecord")),
        ({"payload_mb": 0}, {}, 4, (1, 0, "MultiRecord")),
        ({}, {"MaxConcurrentTransforms": 3, "MaxPayloadInMB": 2, "BatchStrategy": "SINGLE_RECORD"}, 1, (3, 2, "SingleRecord")),
        (
            {"concurrent": 2, "payload_mb": 5, "strategy": "MultiRecord"},
            {"MaxConcurrentTransforms": 3},
            1,
            (2, 5, "MultiRecord"),
        ),
        ({}, {"MaxConcurrentTransforms": "many", "MaxPayloadInMB": -1, "BatchStrategy": None}, 1, (1, 6, "MultiRecord")),
        ({}, {"MaxConcurrentTransforms": True}, 1, (1, 6, "MultiRecord")),
    ],
)
def test_what_holds(asked: dict[str, Any], told: dict[str, Any], workers: int, found: tuple[int, int, str]) -> None:
    assert effective(TransformOptions("job", "b", **asked), told, workers) == Effective(*found)


def test_it_is_logged_as_aws_does() -> None:
    line = parameters_line(Effective(4, 6, "MultiRecord"))
    assert line == "MaxConcurrentTransforms=4, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"


@pytest.mark.parametrize(
    ("path", "key", "prefix", "output"),
    [
        ("out", "in/a/x.csv", "in/", "out/a/x.csv.out"),
        ("out/", "in/x.csv", "in/x.csv", "out/x.csv.out"),
        ("out", "in/part-1", "in/part-", "out/part-1.out"),
        ("", "x", "", "x.out"),
        ("deep/er", "a/b/c", "a", "deep/er/a/b/c.out"),
    ],
)
def test_where_outputs_go(path: str, key: str, prefix: str, output: str) -> None:
    assert output_key(path, key, folder_of(prefix)) == output


def test_manifests() -> None:
    text = json.dumps([{"prefix": "s3://b/in/"}, "x", "y/z"]).encode()
    assert manifest_uris(text) == ("s3://b/in/", ["s3://b/in/x", "s3://b/in/y/z"])
    for bad in (b"", b"{}", b"[]", b'["x"]', b'[{"prefix": 1}]', b'[{"prefix": "s3://b/"}, 3]', b'[{"prefix": "s3://b/"}, ""]'):
        with pytest.raises(BadManifest):
            manifest_uris(bad)


def test_what_a_failed_job_says() -> None:
    reason = failure_reason(Counts(done=2, failed=1), ("b/k", "record 3 (byte 9): it is bad", True))
    assert reason == (
        "ClientError: See job logs for more information. 1 of 3 objects failed; b/k: record 3 (byte 9): it is bad"
    )
    assert failure_reason(Counts(failed=1), ("b/k", "x" * 5000, False)).startswith("AlgorithmError: See job logs")
    assert len(failure_reason(Counts(failed=1), ("b/k", "x" * 5000, False))) == 1024


def test_instances_without_an_object() -> None:
    assert idle_instances(2, 2) is None
    assert idle_instances(3, 2) == "3 instances were asked for, and there are 2 objects: 1 instance is not started"
    assert idle_instances(3, 1) == "3 instances were asked for, and there is 1 object: 2 instances are not started"


def test_a_job_and_its_fleet_know_each_other() -> None:
    job = "arn:aws:sagemaker:us-east-1:123456789012:transform-job/j-1"
    assert job_of_fleet(fleet_of_job(job)) == job
    assert job_of_fleet("arn:aws:sagemaker:us-east-1:123456789012:endpoint/j-1") is None
    assert host_of("transform-job/j-1", "i-1.2") == "j-1/i-1"
    assert host_of("j-1", "i-1") is None
    assert log_stream("j-1", "i-1", 12.9) == "j-1/i-1-12"
