"""Notifications over HTTP with real processes: confirmed by the link, delivered at least once through kills of control."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.deadlines import PATIENCE
from tests.e2e.deployments import Deployments, until
from tests.faults.load import role

MESSAGES = 60
KILLS = 3


class Endpoint:
    """An HTTP endpoint on loopback that confirms its subscription, and refuses each message once before it takes it."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refused: set[str] = set()
        self.certificates: set[str] = set()
        self.confirmed = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                envelope = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(endpoint.take(self.headers["x-amz-sns-message-type"], envelope))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, kind: str, envelope: dict[str, Any]) -> int:
        self.certificates.add(envelope["SigningCertURL"])
        if kind == "SubscriptionConfirmation":
            with urllib.request.urlopen(envelope["SubscribeURL"], timeout=PATIENCE) as response:
                assert response.status == 200
            self.confirmed.set()
            return 200
        if envelope["MessageId"] not in self.refused:
            self.refused.add(envelope["MessageId"])
            return 503
        self.taken.append(envelope["MessageId"])
        return 200


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_every_published_message_arrives_through_kills_of_control(server: Deployments, endpoint: Endpoint) -> None:
    sns, sqs = server.client("sns"), server.client("sqs")
    topic = sns.create_topic(Name="results")["TopicArn"]
    queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint.url)
    assert endpoint.confirmed.wait(PATIENCE)
    until(lambda: sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsConfirmed"] == "2")
    published = set()
    for n in range(MESSAGES):
        if n % (MESSAGES // KILLS) == 10:
            old = role(server, "control")
            old.kill()
            until(lambda old=old: role(server, "control").pid != old.pid)  # type: ignore[misc]
        published.add(sns.publish(TopicArn=topic, Message=f"message {n}")["MessageId"])
    until(lambda: published <= set(endpoint.taken))
    found: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while not published <= set(found) and time.monotonic() < deadline:
        page = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        for message in page:
            found.append(json.loads(message["Body"])["MessageId"])
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert published <= set(found)
    assert len(found) == len(set(found)), "one message in the queue for each publication"
    (certificate,) = endpoint.certificates
    with urllib.request.urlopen(certificate, timeout=PATIENCE) as response:
        assert response.read().startswith(b"-----BEGIN CERTIFICATE-----")
