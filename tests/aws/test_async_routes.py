"""slipway's own routes about asynchronous requests: an account sees, cancels and replays its own and nobody else's."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from slipway.core.asynchronous import AcceptAnswer, AcceptRequest, AsyncOptions, Claimed, Outcome, Staged
from slipway.core.deployments import Deployment, Reached
from slipway.core.routing import Key
from slipway.names import parse_s3_uri, sagemaker_arn
from slipway.services.runtime.invoke_async import Acceptor
from slipway.store import jobs_claims, jobs_settle, objects, resources
from slipway.store.db import Connection
from slipway.store.jobs_claims import Taker
from slipway.store.jobs_settle import Rules
from tests.aws.cloud import Cloud, new_key
from tests.deadlines import PATIENCE


class Hands:
    """Does what gateway and dispatcher do, and calls the routes."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.accept_batch = Acceptor(cloud.world)
        self.bucket = f"bucket-{cloud.account}"
        self.rules = Rules(lambda connection, topic, messages, now: [None] * len(messages))
        cloud.run(
            self._write(lambda c: objects.insert_bucket(c, objects.BucketRow(self.bucket, cloud.account, cloud.region, 0)))
        )

    async def _write(self, fn: Any) -> Any:
        return await self.cloud.world.db.write(fn)

    def write(self, fn: Any) -> Any:
        return self.cloud.run(self._write(fn))

    def endpoint(self, name: str = "Echo", status: str = "InService") -> str:
        cloud, now = self.cloud, self.cloud.world.now()
        options = AsyncOptions(f"s3://{self.bucket}/out", f"s3://{self.bucket}/failed")
        deployment = Deployment(1, "config", (), (), now, asynchronous=options)
        arn = sagemaker_arn(cloud.region, cloud.account, "endpoint", name)
        row = resources.Resource(
            cloud.account,
            cloud.region,
            "endpoint",
            name,
            arn,
            {},
            now,
            now,
            status=status,
            observed=msgspec.to_builtins(Reached(deployment)),
        )
        self.write(lambda c: resources.add(c, row))
        return arn

    def accept(self, endpoint: str = "Echo", **changes: Any) -> AcceptAnswer:
        given = {"input_location": f"s3://{self.bucket}/in.csv", **changes}
        request = AcceptRequest(self.cloud.account, self.cloud.region, endpoint, **given)
        (answer,) = self.cloud.run(self.accept_batch([request]))
        assert answer.code is None, answer.message
        return answer

    def claim(self, count: int = 1, endpoint: str = "Echo", *, begun: bool = True) -> list[Claimed]:
        """`begun`: containers have them."""
        cloud, now = self.cloud, self.cloud.world.now()

        def claim(c: Connection) -> list[Claimed]:
            return jobs_claims.claim(c, cloud.account, cloud.region, endpoint, Taker("1.a", now + 15), count, self.rules, now)[
                0
            ]

        claimed: list[Claimed] = self.write(claim)
        if begun:
            started = [(each.id, each.lease, now, "AllTraffic", "i-1") for each in claimed]
            self.write(lambda c: jobs_claims.started(c, started))
        return claimed

    def settle(self, claimed: Claimed, kind: str) -> None:
        where = parse_s3_uri(claimed.output_location)
        assert where is not None
        staged = Staged(where.bucket, where.key, 2, "e", "text/csv", b"42") if kind == "succeeded" else None
        outcome = Outcome(
            claimed.id,
            claimed.lease,
            kind,  # type: ignore[arg-type]
            "model-error" if kind == "failed" else "",
            "It said no." if kind == "failed" else "",
            status=500 if kind == "failed" else 200,
            staged=staged,
            variant="AllTraffic",
            instance="i-1",
            started=self.cloud.world.now(),
        )
        now = self.cloud.world.now()
        self.write(lambda c: jobs_settle.settle(c, [outcome], self.rules, now))

    def call(self, method: str, path: str, key: Key | None = None, region: str | None = None, **query: Any) -> tuple[int, Any]:
        key = key or self.cloud.key
        target = f"/_slipway/async{path}{'?' + urlencode(query) if query else ''}"
        request = AWSRequest(method=method, url=self.cloud.url + target)
        SigV4Auth(Credentials(key.id, key.secret, key.token), "slipway", region or self.cloud.region).add_auth(request)
        connection = http.client.HTTPConnection(urlsplit(self.cloud.url).netloc, timeout=PATIENCE)
        try:
            connection.request(method, target, headers=dict(request.headers.items()))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def status(self, **query: Any) -> list[dict[str, Any]]:
        code, body = self.call("GET", "/status", **query)
        assert code == 200, body
        found: list[dict[str, Any]] = body["requests"]
        return found


@pytest.fixture
def hands(cloud: Cloud) -> Hands:
    made = Hands(cloud)
    made.endpoint()
    return made


def test_a_queued_request_shows_its_position_and_age(hands: Hands, cloud: Cloud) -> None:
    hands.accept(inference_id="first")
    hands.accept(inference_id="second", body=b"x", input_location=None)
    with cloud.time_passed(30):
        (shown,) = hands.status(inference_id="second")
    assert (shown["state"], shown["position"], shown["attempts"]) == ("queued", 2, 0)
    assert 30 <= shown["age"] < 60
    assert shown["input_location"] is None
    assert hands.status(id=shown["id"])[0]["inference_id"] == "second"


def test_a_request_shows_where_it_runs_and_how_it_ended(hands: Hands) -> None:
    answer = hands.accept(inference_id="mine")
    (claimed,) = hands.claim()
    hands.write(lambda c: jobs_claims.started(c, [(claimed.id, claimed.lease, 5.0, "AllTraffic", "i-1")]))
    (shown,) = hands.status(inference_id="mine")
    assert [shown[name] for name in ("state", "started", "variant", "instance", "attempts")] == [
        "running",
        5.0,
        "AllTraffic",
        "i-1",
        1,
    ]
    hands.settle(claimed, "succeeded")
    (shown,) = hands.status(inference_id="mine")
    assert (shown["state"], shown["output_location"], shown["notification"]) == ("succeeded", answer.output_location, None)


def test_what_is_only_claimed_ahead_is_queued(hands: Hands) -> None:
    """No container has it: it is shown, counted, listed and purged as what it is to the caller."""
    for name in "abcd":
        hands.accept(inference_id=name)
    hands.claim()
    hands.claim(2, begun=False)
    assert [hands.status(inference_id=name)[0]["state"] for name in "abcd"] == ["running", "queued", "queued", "queued"]
    assert [hands.status(inference_id=name)[0]["position"] for name in "bcd"] == [1, 2, 3]
    (counted,) = hands.call("GET", "")[1]["endpoints"]
    assert (counted["queued"], counted["running"]) == (3, 1)
    for state, names in (("queued", "bcd"), ("running", "a"), ("queued,running", "abcd")):
        body = hands.call("GET", "/requests", endpoint="Echo", state=state)[1]
        assert "".join(each["inference_id"] for each in body["requests"]) == names
    assert hands.call("POST", "/purge", endpoint="Echo") == (200, {"cancelled": 3, "queued": 0})
    assert [hands.status(inference_id=name)[0]["state"] for name in "abcd"] == ["running", *["cancelled"] * 3]


def test_an_inference_id_may_name_several_requests(hands: Hands) -> None:
    for _ in range(3):
        hands.accept(inference_id="same")
    hands.settle(hands.claim()[0], "failed")
    assert [each["state"] for each in hands.status(inference_id="same")] == ["failed", "queued", "queued"]
    assert hands.status(inference_id="same")[0]["cause"] == "It said no."


def test_requests_are_listed_and_filtered_in_pages(hands: Hands) -> None:
    for name in "abcde":
        hands.accept(inference_id=name)
    one, two = hands.claim(2)
    hands.settle(one, "succeeded")

    def names(**query: Any) -> str:
        code, body = hands.call("GET", "/requests", endpoint="Echo", **query)
        assert code == 200
        return "".join(each["inference_id"] for each in body["requests"])

    assert names() == "abcde"
    assert names(state="queued") == "cde"
    assert names(state="running,succeeded") == "ab"
    assert names(order="newest", limit=2) == "ed"
    assert names(after=two.id) == "cde"
    assert names(dead=1) == ""
    assert names(since="1.5") == "abcde"
    assert names(since="9" * 17) == ""
    assert names(until="9" * 17) == "abcde"
    assert names(until="1.5") == ""
    _, page = hands.call("GET", "/requests", endpoint="Echo", limit=2)
    assert page["next"] == two.id
    _, page = hands.call("GET", "/requests", endpoint="Echo", after=two.id)
    assert page["next"] is None
    assert hands.call("GET", "/requests", endpoint="Nobody") == (200, {"requests": [], "next": None})


def test_the_overview_counts(hands: Hands) -> None:
    for _ in range(4):
        hands.accept()
    good, bad = hands.claim(2)
    hands.settle(good, "succeeded")
    hands.settle(bad, "failed")
    hands.claim(1)
    _, body = hands.call("GET", "")
    (counted,) = body["endpoints"]
    assert counted["endpoint"] == "Echo"
    states = ("queued", "running", "succeeded", "failed", "expired", "cancelled")
    assert [counted[state] for state in states] == [1, 1, 1, 1, 0, 0]
    assert counted["oldest_age"] >= 0


def test_cancelling_by_inference_id_ends_what_has_not_ended(hands: Hands) -> None:
    for _ in range(3):
        hands.accept(inference_id="same")
    done, running = hands.claim(2)
    hands.settle(done, "succeeded")
    code, body = hands.call("POST", "/cancel", inference_id="same")
    assert code == 200
    assert len(body["cancelled"]) == 2
    assert running.id in body["cancelled"]
    assert body["ended"] == [done.id]
    assert [each["state"] for each in hands.status(inference_id="same")] == ["succeeded", "cancelled", "cancelled"]
    assert hands.status(id=running.id)[0]["cause"] == "Cancelled by the caller."
    assert hands.call("POST", "/cancel", inference_id="same")[1]["cancelled"] == []


def test_a_failed_request_is_replayed_as_a_new_one_that_names_it(hands: Hands) -> None:
    hands.accept(inference_id="mine", body=b"again", input_location=None, content_type="text/csv")
    (claimed,) = hands.claim()
    hands.settle(claimed, "failed")
    code, body = hands.call("POST", "/replay", inference_id="mine")
    ((made),) = body["replayed"]
    assert (code, made["replay_of"]) == (200, claimed.id)
    (again,) = hands.claim()
    assert (again.id, again.inference_id, again.body, again.content_type) == (made["id"], "mine", b"again", "text/csv")
    assert again.output_location != claimed.output_location
    assert [each["replay_of"] for each in hands.status(inference_id="mine")] == [None, claimed.id]
    code, body = hands.call("POST", "/replay", id=again.id)
    assert "running" in body["replayed"][0]["error"]


def test_a_dead_letter_that_was_replayed_is_dead_no_more(hands: Hands, cloud: Cloud) -> None:
    hands.accept(inference_id="doomed", filename="mine.json")
    skew = 0.0
    for wait in (2.0, 4.0, 8.0):
        with cloud.time_passed(skew):
            (claimed,) = hands.claim()
            hands.settle(claimed, "lost")
        skew += wait
    (shown,) = hands.status(inference_id="doomed")
    assert (shown["state"], shown["dead"], shown["attempts"]) == ("failed", True, 3)
    _, body = hands.call("GET", "/requests", endpoint="Echo", dead=1, state="failed")
    assert [each["id"] for each in body["requests"]] == [claimed.id]
    _, body = hands.call("POST", "/replay", id=claimed.id)
    assert body["replayed"][0]["output_location"].endswith("/out/mine.json")
    _, body = hands.call("GET", "/requests", endpoint="Echo", dead=1, state="failed")
    assert body["requests"] == []


def test_replaying_needs_the_endpoint(hands: Hands) -> None:
    hands.accept(inference_id="mine")
    (claimed,) = hands.claim()
    hands.settle(claimed, "failed")
    arn = sagemaker_arn(hands.cloud.region, hands.cloud.account, "endpoint", "Echo")
    hands.write(lambda c: resources.remove(c, arn))
    _, body = hands.call("POST", "/replay", inference_id="mine")
    assert body["replayed"] == [{"replay_of": claimed.id, "error": "there is no asynchronous endpoint Echo in service"}]
    hands.endpoint()
    _, body = hands.call("POST", "/replay", inference_id="mine")
    assert body["replayed"][0]["id"] == hands.claim()[0].id


def test_purging_cancels_what_is_queued(hands: Hands) -> None:
    for _ in range(3):
        hands.accept()
    hands.claim()
    assert hands.call("POST", "/purge", endpoint="Echo") == (200, {"cancelled": 2, "queued": 0})
    assert hands.call("POST", "/purge", endpoint="Nobody")[0] == 404


def test_an_account_and_a_region_are_alone(hands: Hands, cloud: Cloud) -> None:
    hands.accept(inference_id="mine")
    (claimed,) = hands.claim()
    other = cloud.other_account()
    for key, region in ((other, None), (None, "us-west-2")):
        named: list[dict[str, Any]] = [{"inference_id": "mine"}, {"id": claimed.id}]
        for query in named:
            for method, path in (("GET", "/status"), ("POST", "/cancel"), ("POST", "/replay")):
                assert hands.call(method, path, key, region, **query)[0] == 404
        assert hands.call("GET", "/requests", key, region, endpoint="Echo")[1]["requests"] == []
        assert hands.call("GET", "", key, region)[1]["endpoints"] == []
        assert hands.call("POST", "/purge", key, region, endpoint="Echo")[0] == 404
    assert hands.status(inference_id="mine")[0]["state"] == "running"


def test_data_credentials_and_unsigned_calls_are_refused(hands: Hands, cloud: Cloud) -> None:
    key = new_key(cloud.server, cloud.account, services=("s3", "sagemaker-runtime"))
    assert hands.call("GET", "", key)[0] == 403
    connection = http.client.HTTPConnection(urlsplit(cloud.url).netloc, timeout=PATIENCE)
    connection.request("POST", "/_slipway/async/purge?endpoint=Echo")
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/status", {}),
        ("/status", {"id": "x"}),
        ("/status", {"id": "9" * 40}),
        ("/requests", {}),
        ("/requests", {"endpoint": "Echo", "state": "asleep"}),
        ("/requests", {"endpoint": "Echo", "since": "yesterday"}),
        ("/requests", {"endpoint": "Echo", **{f"x{n}": "1" for n in range(40)}}),
    ],
)
def test_what_is_not_understood_is_refused(hands: Hands, path: str, query: dict[str, Any]) -> None:
    code, body = hands.call("GET", path, **query)
    assert (code, body["code"]) == (400, "ValidationError")
