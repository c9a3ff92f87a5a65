"""CloudWatch's metrics with boto3, over the three protocols that its clients speak."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from tests.aws.cloud import Cloud

NAMESPACE = "Mine/App"
DIMENSIONS = [{"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": "v"}]


@pytest.fixture(params=["json", "query", "smithy-rpc-v2-cbor"])
def client(request: pytest.FixtureRequest, cloud: Cloud) -> Iterator[Any]:
    """Of each protocol that the model lists; left to itself, botocore takes the first that it knows."""
    session = botocore.session.Session()
    loader = session.get_component("data_loader")
    model = loader.load_service_model("cloudwatch", "service-2")
    chosen = {**model, "metadata": {**model["metadata"], "protocol": request.param, "protocols": [request.param]}}

    again: Any = Loader(extra_search_paths=loader.search_paths)
    load = again.load_service_model

    def loaded(service_name: str, type_name: str, api_version: str | None = None) -> Any:
        return (
            chosen if (service_name, type_name) == ("cloudwatch", "service-2") else load(service_name, type_name, api_version)
        )

    again.load_service_model = loaded
    session.register_component("data_loader", again)
    made = session.create_client(
        "cloudwatch",
        region_name=cloud.region,
        endpoint_url=cloud.url,
        aws_access_key_id=cloud.key.id,
        aws_secret_access_key=cloud.key.secret,
        config=Config(retries={"max_attempts": 1, "mode": "standard"}, proxies={}),
    )
    yield made
    made.close()


def now() -> float:
    """The begin of this minute."""
    return time.time() // 60 * 60


@pytest.fixture(autouse=True)
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same one for the whole of a test, which may begin at its very end."""
    begun = now()
    monkeypatch.setattr(f"{__name__}.now", lambda: begun)


def minute(back: int = 0) -> datetime:
    return datetime.fromtimestamp(now() - back * 60, UTC)


def put(client: Any, name: str, *data: dict[str, Any], **more: Any) -> None:
    rows = [{"MetricName": name, "Dimensions": DIMENSIONS, "Timestamp": minute(1), **more, **datum} for datum in data]
    client.put_metric_data(Namespace=NAMESPACE, MetricData=rows)


def statistics(client: Any, name: str, **asked: Any) -> list[dict[str, Any]]:
    request: dict[str, Any] = {
        "Namespace": NAMESPACE,
        "MetricName": name,
        "Dimensions": DIMENSIONS,
        "StartTime": minute(10),
        "EndTime": minute(-1),
        "Period": 60,
        **asked,
    }
    answer = client.get_metric_statistics(**request)
    assert answer["Label"] == name
    found: list[dict[str, Any]] = answer["Datapoints"]
    return found


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


ALL = ["SampleCount", "Average", "Sum", "Minimum", "Maximum"]


def test_all_forms_of_data_come_back_as_statistics(client: Any) -> None:
    put(
        client,
        "Forms",
        {"Value": 1.5, "Unit": "Seconds"},
        {"StatisticValues": {"SampleCount": 2, "Sum": 5, "Minimum": 2, "Maximum": 3}, "Unit": "Seconds"},
        {"Values": [10.0, 20.0], "Counts": [3.0, 1.0], "Unit": "Seconds"},
    )
    (point,) = statistics(client, "Forms", Statistics=ALL)
    assert point == {
        "Timestamp": minute(1),
        "Unit": "Seconds",
        "SampleCount": 7.0,
        "Sum": 56.5,
        "Average": 56.5 / 7,
        "Minimum": 1.5,
        "Maximum": 20.0,
    }


def test_percentiles(client: Any) -> None:
    put(client, "Percentiles", {"Values": [float(n) for n in range(1, 101)]}, Unit="Milliseconds")
    (point,) = statistics(client, "Percentiles", ExtendedStatistics=["p50", "p99.9", "p0", "p100"])
    told = point["ExtendedStatistics"]
    assert told["p50"] == pytest.approx(50, rel=0.03)
    assert told["p99.9"] == pytest.approx(99.9, rel=0.03)
    assert (told["p0"], told["p100"]) == (1.0, 100.0)
    put(client, "Sums", {"StatisticValues": {"SampleCount": 2, "Sum": 5, "Minimum": 2, "Maximum": 3}})
    (point,) = statistics(client, "Sums", ExtendedStatistics=["p50"])
    assert point["ExtendedStatistics"] == {}


def test_data_are_divided_by_period_unit_and_dimensions(client: Any) -> None:
    for back in range(1, 6):
        put(client, "Divided", {"Value": float(back)}, Timestamp=minute(back), Unit="Count")
    put(client, "Divided", {"Value": 100.0}, Unit="Bytes")
    client.put_metric_data(Namespace=NAMESPACE, MetricData=[{"MetricName": "Divided", "Value": 7.0}])
    points = statistics(client, "Divided", Statistics=["Sum"], Unit="Count")
    assert [(p["Timestamp"], p["Sum"]) for p in points] == [(minute(back), float(back)) for back in (5, 4, 3, 2, 1)]
    (point,) = statistics(
        client, "Divided", Statistics=["Sum"], Unit="Count", StartTime=minute(5), EndTime=minute(0), Period=300
    )
    assert (point["Timestamp"], point["Sum"]) == (minute(5), 15.0)
    assert len(statistics(client, "Divided", Statistics=["Sum"])) == 6
    assert len(statistics(client, "Divided", Statistics=["Sum"], Dimensions=[])) == 1
    assert statistics(client, "Divided", Statistics=["Sum"], Dimensions=DIMENSIONS[:1]) == []


def test_high_resolution(client: Any) -> None:
    for second in range(30):
        put(client, "Fine", {"Value": float(second)}, Timestamp=minute(1) + timedelta(seconds=second), StorageResolution=1)
    points = statistics(client, "Fine", Statistics=["Maximum"], Period=10)
    assert [p["Maximum"] for p in points] == [9.0, 19.0, 29.0]
    (point,) = statistics(client, "Fine", Statistics=["SampleCount"])
    assert point["SampleCount"] == 30.0


def test_a_large_call_comes_compressed(client: Any) -> None:
    data = [{"Value": float(n), "Dimensions": [{"Name": "Number", "Value": f"{n:0200d}"}]} for n in range(500)]
    put(client, "Large", *data)
    (point,) = statistics(client, "Large", Statistics=["Sum"], Dimensions=[{"Name": "Number", "Value": f"{321:0200d}"}])
    assert point["Sum"] == 321.0


@pytest.mark.parametrize(
    ("datum", "code", "words"),
    [
        ({}, "MissingParameter", "At least one of the parameters"),
        ({"Value": 1.0, "Values": [1.0]}, "InvalidParameterCombination", "mutually exclusive"),
        ({"Value": 1.0, "Timestamp": datetime(2001, 1, 1, tzinfo=UTC)}, "InvalidParameterValue", "two weeks in the past"),
        ({"Value": 1.0, "Timestamp": minute(-180)}, "InvalidParameterValue", "two hours in the future"),
        ({"Value": 1e300}, "InvalidParameterValue", "is invalid"),
        ({"Values": [1.0], "Counts": [1.0, 2.0]}, "InvalidParameterValue", "same size"),
        ({"Values": [1.0] * 151}, "InvalidParameterValue", "150"),
        ({"Values": [1.0], "Counts": [0.0]}, "InvalidParameterValue", "greater than 0"),
        ({"Value": 1.0, "StorageResolution": 10}, "InvalidParameterValue", "must be 1 or 60"),
        (
            {"StatisticValues": {"SampleCount": 2.0, "Sum": 2.0, "Minimum": 2.0, "Maximum": 1.0}},
            "InvalidParameterValue",
            "Maximum must be",
        ),
    ],
)
def test_bad_data_are_refused_whole(cloud: Cloud, datum: dict[str, Any], code: str, words: str) -> None:
    client = cloud.client("cloudwatch")
    good = {"MetricName": "Refused", "Value": 1.0}
    told = refused(client.put_metric_data, Namespace=NAMESPACE, MetricData=[good, {"MetricName": "Refused", **datum}])
    assert told[0] == code
    assert words in told[1]
    assert client.list_metrics(Namespace=NAMESPACE)["Metrics"] == []


def test_errors_have_the_codes_of_every_protocol(client: Any) -> None:
    with pytest.raises(client.exceptions.InvalidParameterCombinationException) as caught:
        statistics(client, "x", Statistics=["Sum"], ExtendedStatistics=["p50"])
    assert caught.value.response["Error"]["Code"].startswith("InvalidParameterCombination")


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({}, "InvalidParameterCombination", "Statistics"),
        ({"Statistics": ["Sum"], "Period": 61}, "InvalidParameterValue", "multiple of 60"),
        ({"Statistics": ["Sum"], "StartTime": minute(), "EndTime": minute()}, "InvalidParameterCombination", "less than"),
        ({"Statistics": ["Sum"], "StartTime": minute(1500)}, "InvalidParameterCombination", "exceeds the limit of 1,440"),
        ({"ExtendedStatistics": ["tm90"]}, "InvalidParameterValue", "tm90 is not supported by slipway"),
        ({"ExtendedStatistics": ["p101"]}, "InvalidParameterValue", "p101"),
        ({"Statistics": ["Median"]}, "ValidationError", "Median"),
    ],
)
def test_bad_questions(cloud: Cloud, asked: dict[str, Any], code: str, words: str) -> None:
    client = cloud.client("cloudwatch")
    told = refused(lambda: statistics(client, "x", **asked))
    assert told[0] == code
    assert words in told[1]


def stat(name: str, stat: str = "Sum", period: int = 60) -> dict[str, Any]:
    metric = {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": DIMENSIONS}
    return {"Metric": metric, "Period": period, "Stat": stat}


def data(client: Any, *queries: dict[str, Any], **more: Any) -> dict[str, Any]:
    asked = {"StartTime": minute(5), "EndTime": minute(0), "ScanBy": "TimestampAscending", **more}
    answer: dict[str, Any] = client.get_metric_data(MetricDataQueries=list(queries), **asked)
    return answer


def test_metric_data_with_math(client: Any) -> None:
    for back, value in ((5, 10.0), (3, 30.0), (2, 40.0)):
        put(client, "MathA", {"Value": value}, Timestamp=minute(back))
    put(client, "MathB", {"Value": 2.0}, Timestamp=minute(3))
    answer = data(
        client,
        {"Id": "a", "MetricStat": stat("MathA")},
        {"Id": "b", "MetricStat": stat("MathB"), "ReturnData": False},
        {"Id": "ratio", "Expression": "a / b", "Label": "A per B"},
        {"Id": "filled", "Expression": "FILL(a, 0) + SUM([FILL(b, 0), 1])"},
        {"Id": "all", "Expression": "SUM(METRICS())"},
        {"Id": "rate", "Expression": "a / PERIOD(a)"},
    )
    found = {row["Id"]: row for row in answer["MetricDataResults"]}
    assert list(found) == ["a", "ratio", "filled", "all", "rate"]
    assert found["a"]["Timestamps"] == [minute(5), minute(3), minute(2)]
    assert found["a"]["Values"] == [10.0, 30.0, 40.0]
    assert found["a"]["Label"] == "MathA"
    assert found["a"]["StatusCode"] == "Complete"
    assert (found["ratio"]["Label"], found["ratio"]["Timestamps"], found["ratio"]["Values"]) == ("A per B", [minute(3)], [15.0])
    assert found["filled"]["Values"] == [11.0, 1.0, 33.0, 41.0, 1.0]
    assert found["all"]["Values"] == [10.0, 32.0, 40.0]
    assert found["rate"]["Values"] == pytest.approx([10 / 60, 0.5, 40 / 60])


def test_metric_data_newest_first_and_in_pages(cloud: Cloud) -> None:
    client = cloud.client("cloudwatch")
    for name in ("PageA", "PageB"):
        for back in range(1, 6):
            put(client, name, {"Value": float(back)}, Timestamp=minute(back))
    queries = [{"Id": "a", "MetricStat": stat("PageA")}, {"Id": "b", "MetricStat": stat("PageB")}]
    whole = client.get_metric_data(MetricDataQueries=queries, StartTime=minute(6), EndTime=minute(0))
    assert [row["Values"] for row in whole["MetricDataResults"]] == [[1.0, 2.0, 3.0, 4.0, 5.0]] * 2
    pages = client.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries, StartTime=minute(6), EndTime=minute(0), MaxDatapoints=3
    )
    joined: dict[str, list[float]] = {"a": [], "b": []}
    count = 0
    for page in pages:
        count += 1
        assert sum(len(row["Values"]) for row in page["MetricDataResults"]) <= 3
        for row in page["MetricDataResults"]:
            joined[row["Id"]] += row["Values"]
    assert joined == {"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [1.0, 2.0, 3.0, 4.0, 5.0]}
    assert count == 4


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ([{"Id": "A", "MetricStat": stat("x")}], "must match"),
        ([{"Id": "a", "MetricStat": stat("x")}] * 2, "not unique"),
        ([{"Id": "a"}], "MetricStat or Expression"),
        ([{"Id": "a", "Expression": "b + 1"}], "Unknown identifier: b"),
        ([{"Id": "a", "Expression": "SEARCH('x', 'Sum', 60)"}], "SEARCH is not supported"),
        ([{"Id": "a", "Expression": "a + 1"}], "Circular reference"),
        ([{"Id": "a", "MetricStat": stat("x", "IQM")}], "IQM is not supported by slipway"),
        ([{"Id": "a", "MetricStat": stat("x", period=7)}], "Period must be"),
        ([{"Id": "a", "MetricStat": stat("x"), "ReturnData": False}], "ReturnData"),
        ([{"Id": "m", "MetricStat": stat("x")}, {"Id": "a", "Expression": "SUM(m)"}], "must give a time series"),
        ([{"Id": f"e{n}", "Expression": "+".join(["1"] * 1000)} for n in range(100)], "100,000 characters together"),
    ],
)
def test_bad_queries(cloud: Cloud, queries: list[dict[str, Any]], words: str) -> None:
    client = cloud.client("cloudwatch")
    code, message = refused(lambda: data(client, *queries))
    assert code == "ValidationError"
    assert words in message


def test_metrics_are_listed(client: Any, cloud: Cloud) -> None:
    for name in ("ListA", "ListB"):
        put(client, name, {"Value": 1.0, "Unit": "Count"}, {"Value": 1.0, "Unit": "Bytes"})
    client.put_metric_data(Namespace="Other", MetricData=[{"MetricName": "ListA", "Value": 1.0}])
    found = client.list_metrics(Namespace=NAMESPACE)["Metrics"]
    assert found == [{"Namespace": NAMESPACE, "MetricName": name, "Dimensions": DIMENSIONS} for name in ("ListA", "ListB")]
    assert len(client.list_metrics(MetricName="ListA")["Metrics"]) == 2
    for wanted, count in (
        ([{"Name": "VariantName"}], 2),
        ([{"Name": "VariantName", "Value": "v"}], 2),
        ([{"Name": "VariantName", "Value": "w"}], 0),
    ):
        assert len(client.list_metrics(Namespace=NAMESPACE, Dimensions=wanted)["Metrics"]) == count
    assert len(client.list_metrics(Namespace=NAMESPACE, RecentlyActive="PT3H")["Metrics"]) == 2


def test_what_has_no_recent_data_is_not_listed(cloud: Cloud) -> None:
    client = cloud.client("cloudwatch")
    for name, hours in (("New", 1), ("Old", 5)):
        put(client, name, {"Value": 1.0}, Timestamp=minute(60 * hours))
    assert [m["MetricName"] for m in client.list_metrics()["Metrics"]] == ["New", "Old"]
    assert [m["MetricName"] for m in client.list_metrics(RecentlyActive="PT3H")["Metrics"]] == ["New"]
    put(client, "Gone", {"Value": 1.0}, Timestamp=minute(14 * 1440 - 8))
    assert len(client.list_metrics()["Metrics"]) == 3
    with cloud.time_passed(600):
        assert [m["MetricName"] for m in client.list_metrics()["Metrics"]] == ["New", "Old"]


def test_metrics_are_listed_in_pages_of_500(cloud: Cloud) -> None:
    client = cloud.client("cloudwatch")
    for start in (0, 1000):
        rows = [{"MetricName": f"Page{n:04d}", "Value": 1.0} for n in range(start, min(start + 1000, 1203))]
        client.put_metric_data(Namespace="Pages", MetricData=rows)
    pages = [page["Metrics"] for page in client.get_paginator("list_metrics").paginate(Namespace="Pages")]
    assert [len(page) for page in pages] == [500, 500, 203]
    assert [metric["MetricName"] for page in pages for metric in page] == [f"Page{n:04d}" for n in range(1203)]
    assert refused(client.list_metrics, NextToken="mine")[0] == "InvalidNextToken"


def test_accounts_and_regions_see_nothing_of_each_other(cloud: Cloud) -> None:
    put(cloud.client("cloudwatch"), "Own", {"Value": 1.0})
    for other in (cloud.client("cloudwatch", key=cloud.other_account()), cloud.client("cloudwatch", region="us-west-2")):
        assert other.list_metrics()["Metrics"] == []
        assert statistics(other, "Own", Statistics=["Sum"]) == []


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("put_metric_data", {"Namespace": "n", "EntityMetricData": [{"MetricData": [{"MetricName": "m", "Value": 1.0}]}]}),
        ("list_metrics", {"IncludeLinkedAccounts": True}),
        ("list_metrics", {"OwningAccount": "123456789012"}),
        (
            "get_metric_data",
            {
                "MetricDataQueries": [{"Id": "a", "MetricStat": stat("x")}],
                "StartTime": minute(2),
                "EndTime": minute(1),
                "LabelOptions": {"Timezone": "+0100"},
            },
        ),
    ],
)
def test_what_is_not_there_is_refused_by_its_name(cloud: Cloud, operation: str, request_: dict[str, Any]) -> None:
    code, message = refused(getattr(cloud.client("cloudwatch"), operation), **request_)
    assert code == "InvalidParameterValue"
    assert "is not supported by slipway" in message


def test_operations_that_are_not_there_say_so(cloud: Cloud) -> None:
    client = cloud.client("cloudwatch")
    assert "slipway does not implement CloudWatch ListDashboards yet" in refused(client.list_dashboards)[1]
