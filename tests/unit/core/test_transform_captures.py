"""Manifests of what a job carried, and inference ids: the same whoever writes them."""

from __future__ import annotations

import json

import pytest

from slipway.core.transform_captures import Capture, Carried, Marks, manifest, stamp
from slipway.core.transform_joins import CSV, JSON, Processing
from slipway.core.transforms import manifest_uris


@pytest.mark.parametrize(
    ("keys", "prefix"),
    [
        (["in/a", "in/b"], "in/"),
        (["in/ab", "in/abc/d"], "in/"),
        (["in/x/a"], "in/x/"),
        (["a", "b"], ""),
        (["in/", "in/a"], ""),
        (["in/x/", "in/x/y"], "in/"),
        (["b/1", "a/1"], ""),
        (["/"], ""),
        (["ä/1", "ä/2"], "ä/"),
    ],
)
def test_a_manifest_names_its_objects_below_their_folder(keys: list[str], prefix: str) -> None:
    text = manifest("bucket", keys)
    assert json.loads(text)[0] == {"prefix": f"s3://bucket/{prefix}"}
    assert manifest_uris(text) == (f"s3://bucket/{prefix}", [f"s3://bucket/{key}" for key in keys])


def test_files_follow_from_the_job_and_its_end() -> None:
    page = [Carried("one", "in/a", "o/a.out"), Carried("one", "in/b", "o/b.out"), Carried("two", "in/c", "o/c.out")]
    capture = Capture("arn:j", "kept", "to/", "out", 1661820555.0)
    found = dict(capture.files(0, page))
    assert found == dict(capture.files(0, page))
    assert [key.rsplit("/", 1)[0] for key in found] == ["to/input/2022/08/30/00", "to/output/2022/08/30/00"] * 2
    assert [json.loads(text) for text in found.values()] == [
        [{"prefix": "s3://one/in/"}, "a", "b"],
        [{"prefix": "s3://out/o/"}, "a.out", "b.out"],
        [{"prefix": "s3://two/in/"}, "c"],
        [{"prefix": "s3://out/o/"}, "c.out"],
    ]
    assert not found.keys() & dict(capture.files(1, page)).keys()
    assert next(iter(dict(Capture("arn:j", "kept", "", "out", 0.0).files(0, page)))).startswith("input/1970/01/01/00/")


def test_inference_ids_belong_to_a_record_of_an_object_of_a_job() -> None:
    time = stamp(1661820555.0)
    marks = Marks("arn:j", "b", "k", time)
    assert marks.id(3) == Marks("arn:j", "b", "k", time).id(3)
    assert len({marks.id(3), marks.id(4), Marks("arn:j", "b", "l", time).id(3), Marks("arn:i", "b", "k", time).id(3)}) == 4
    rows = Processing(CSV, CSV, marks=marks)
    assert rows.per_record
    assert rows.result(b"1", b"0.5", 3) == f"0.5,{marks.id(3)},2022-08-30T00:49:15Z".encode()
    whole = f"0,{marks.id(0)},{time}\n1,{marks.id(1)},{time}\n".encode()
    assert rows.result(b"1\n2\n", b"0\n1\n", 0) == whole
    joined = Processing(JSON, JSON, join=True, marks=marks).result(b'{"a":1}', b"[2]", 3)
    ids = {"SageMakerInferenceId": marks.id(3), "SageMakerInferenceTime": time}
    assert json.loads(joined) == {"a": 1, "SageMakerOutput": [2], **ids}
    assert json.loads(Processing(JSON, JSON, marks=marks).result(b"", b"0.5", 3)) == {"SageMakerOutput": 0.5, **ids}
