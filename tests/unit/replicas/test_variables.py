"""Variables of AWS's framework images: those that say how many workers, those that change nothing."""

from __future__ import annotations

import pytest

from slipway.replicas.variables import MAX_NOTES, notes, wanted_workers


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 0),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "3", "MMS_DEFAULT_WORKERS_PER_MODEL": "5"}, 3),
        ({"MMS_DEFAULT_WORKERS_PER_MODEL": "5"}, 5),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "many", "TS_DEFAULT_WORKERS_PER_MODEL": "2"}, 2),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "0"}, 0),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "٣"}, 0),
    ],
)
def test_how_many_workers_are_asked_for(environment: dict[str, str], count: int) -> None:
    assert wanted_workers(environment) == count


def test_what_has_no_effect_is_said() -> None:
    acting = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "9", "MMS_DEFAULT_RESPONSE_TIMEOUT": "9", "TS_DEFAULT_WORKERS_PER_MODEL": "1"}
    assert notes({**acting, "SAGEMAKER_PROGRAM": "inference.py", "MINE": "1"}) == []
    assert notes({"SAGEMAKER_MODEL_SERVER_VMARGS": "-Xmx1g", "MMS_JOB_QUEUE_SIZE": "10", "TS_NUMBER_OF_GPU": "1"}) == [
        "SAGEMAKER_MODEL_SERVER_VMARGS has no effect: no Java runs here",
        "MMS_JOB_QUEUE_SIZE has no effect: multi-model-server does not run here",
        "TS_NUMBER_OF_GPU has no effect: TorchServe does not run here",
    ]
    assert len(notes({f"TS_{number}": "1" for number in range(99)})) == MAX_NOTES


def test_a_multi_model_container_has_one_process_for_each_model_and_no_batches() -> None:
    asked = {"SAGEMAKER_MODEL_SERVER_WORKERS": "4", "SAGEMAKER_NUM_MODEL_WORKERS": "2", "SAGEMAKER_TS_BATCH_SIZE": "8"}
    assert notes(asked, many=True) == [
        "SAGEMAKER_MODEL_SERVER_WORKERS has no effect: each loaded model of a multi-model container has one process",
        "SAGEMAKER_NUM_MODEL_WORKERS has no effect: each loaded model of a multi-model container has one process",
        "SAGEMAKER_TS_BATCH_SIZE has no effect: models of a multi-model container get their requests one by one, as on AWS",
    ]
    assert [note.split()[0] for note in notes(asked)] == ["SAGEMAKER_NUM_MODEL_WORKERS"]
