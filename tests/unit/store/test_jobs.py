"""Asynchronous requests in the store, on both databases: accepted, claimed, settled, expired, cancelled, orphaned, replayed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from slipway.core.asynchronous import AsyncOptions, Staged
from slipway.store import jobs, jobs_claims, jobs_places, jobs_publications, jobs_queries
from slipway.store.jobs import Accepted
from slipway.store.jobs_claims import Taker
from slipway.store.jobs_queries import Wanted
from tests.unit.store.jobs_world import LEASE, OPTIONS, STAMP, Store, failed, lost, opened, released, succeeded


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with opened(database_url) as found:
        yield found


# Accepting


def test_requests_are_claimed_in_the_order_of_their_arrival(store: Store) -> None:
    ids = store.accepted(3) + store.accepted(2)
    assert ids == sorted(ids)
    assert [each.id for each in store.claim(4)] == ids[:4]
    assert [each.id for each in store.claim(4)] == ids[4:]
    assert store.claim(4) == []


def test_a_clock_that_was_set_back_does_not_change_the_order(store: Store) -> None:
    first = store.accepted(2)
    store.now -= 5000
    assert store.accepted(1)[0] > first[-1]


def test_a_claim_holds_all_that_a_dispatcher_needs(store: Store) -> None:
    row = store.request(content_type="text/csv", accept="application/json", custom_attributes="c=1", timeout=7)
    (accepted,) = store.accept(row)
    (claimed,) = store.claim()
    assert isinstance(accepted, Accepted)
    assert (claimed.id, claimed.lease, claimed.attempt) == (accepted.id, 1, 1)
    assert (claimed.account, claimed.region, claimed.endpoint) == ("1", "eu-central-1", "Echo")
    assert (claimed.input_location, claimed.body) == (row.input_location, None)
    assert (claimed.content_type, claimed.accept, claimed.custom_attributes) == ("text/csv", "application/json", "c=1")
    assert (claimed.timeout, claimed.received, claimed.expires) == (7, row.received, row.expires)
    assert (claimed.inference_id, claimed.output_location) == (row.inference_id, row.output_location)


def test_an_inline_body_is_given_to_the_claim_and_dropped_after_success_alone(store: Store) -> None:
    good, bad = store.accepted(1, input_location=None, body=b"\0good") + store.accepted(1, input_location=None, body=b"bad")
    one, two = store.claim(2)
    assert (one.body, two.body) == (b"\0good", b"bad")
    assert store.settle(succeeded(one), failed(two)) == [True, True]
    assert store.write(lambda c: (jobs.body(c, good), jobs.body(c, bad))) == (None, b"bad")


def test_a_queue_takes_no_more_than_its_bound(store: Store) -> None:
    answers = store.accept(*(store.request() for _ in range(5)), bound=3)
    assert ["full" if answer == "full" else "in" for answer in answers] == ["in", "in", "in", "full", "full"]
    assert store.accept(store.request(), bound=3) == ["full"]
    (claimed, *_) = store.claim(1)
    assert store.accept(store.request(), bound=3) == ["full"], "what runs counts"
    store.settle(succeeded(claimed))
    assert store.accept(store.request(), bound=3) != ["full"]


def test_a_token_gives_the_first_answer_again_and_refuses_another_input(store: Store) -> None:
    first, again = store.accept(store.request(token="t", fingerprint="a"), store.request(token="t", fingerprint="a"))
    later, other = store.accept(store.request(token="t", fingerprint="a"), store.request(token="t", fingerprint="b"))
    assert isinstance(first, Accepted)
    assert first.fresh
    assert isinstance(again, Accepted)
    assert not again.fresh
    assert again == later == replace(first, fresh=False)
    assert other == "token"
    assert store.queue().queued == 1
    full = store.accept(store.request(token="t", fingerprint="a"), store.request(), bound=1)
    assert full == [later, "full"], "an answer that was given is given again, however full the queue"


def test_a_token_is_one_endpoints_own_incarnation(store: Store) -> None:
    store.accept(store.request(token="t", fingerprint="a"))
    store.delete()
    store.serve()
    (answer,) = store.accept(store.request(token="t", fingerprint="b"))
    assert isinstance(answer, Accepted)
    assert answer.fresh


# Settling


def test_success_is_an_object_a_state_and_one_notification(store: Store) -> None:
    (ident,) = store.accepted()
    (claimed,) = store.claim()
    store.now += 2
    outcome = replace(succeeded(claimed, b"42"), started=store.now - 1)
    answers, result = store.settle_with_result(outcome)
    job = store.job(ident)
    assert answers == [True]
    assert (job.state, job.finished, job.started, job.variant, job.instance) == (
        "succeeded",
        store.now,
        store.now - 1,
        "AllTraffic",
        "i-1",
    )
    assert store.object(job.output_location) == b"42"
    assert store.object(job.failure_location or "") is None
    assert job.notice == {"topic": "arn:topic:good", "message": "message-1"}
    ((topic, told),) = store.told
    assert topic == "arn:topic:good"
    assert told["invocationStatus"] == "Completed"
    assert told["responseParameters"] == {"contentType": "text/csv", "outputLocation": job.output_location}
    assert STAMP.fullmatch(told["eventTime"])
    assert "responseBody" not in told
    assert [(each.state, each.notified, each.outcome) for each in result.settled] == [("succeeded", True, outcome)]
    assert store.counters() == store.counted()


def test_an_outcome_that_is_told_again_is_true_again_and_changes_nothing(store: Store) -> None:
    store.accepted()
    (claimed,) = store.claim()
    assert store.settle(succeeded(claimed, b"1")) == [True]
    assert store.settle(succeeded(claimed, b"1"), succeeded(claimed, b"1")) == [True, True]
    assert store.settle(failed(claimed)) == [False]
    assert store.object(claimed.output_location) == b"1"
    assert len(store.told) == 1


def test_two_words_on_one_request_in_one_batch_count_once(store: Store) -> None:
    (ident,) = store.accepted()
    (claimed,) = store.claim()
    assert store.settle(succeeded(claimed), failed(claimed))[0] is True
    assert store.job(ident).state == "succeeded"
    assert len(store.told) == 1


def test_failure_is_an_object_that_says_why(store: Store) -> None:
    (ident,) = store.accepted()
    (claimed,) = store.claim()
    cause = 'Received server error (500) from primary with message "boom".'
    store.settle(failed(claimed, cause=cause, answer=b"boom"))
    job = store.job(ident)
    assert (job.state, job.cause_kind, job.cause, job.status, job.dead) == ("failed", "model-error", cause, 500, 0)
    assert store.object(job.output_location) is None
    assert store.object(job.failure_location or "") == cause.encode()
    ((topic, told),) = store.told
    assert (topic, told["invocationStatus"]) == ("arn:topic:bad", "Failed")
    assert told["failureReason"].startswith("ClientError: Received server error (500) from model. See the SageMaker Endpoint")
    assert told["responseParameters"]["failureLocation"] == job.failure_location


def test_a_lease_that_was_taken_over_is_void(store: Store) -> None:
    (ident,) = store.accepted()
    (old,) = store.claim(holder="1.a")
    store.now += LEASE + 1
    store.end(jobs_claims.reap)
    store.now += 2
    (new,) = store.claim(holder="2.b")
    assert (new.id, new.lease, new.attempt) == (ident, old.lease + 1, 2)
    assert store.settle(succeeded(old, b"old")) == [False]
    assert store.settle(succeeded(new, b"new")) == [True]
    assert store.settle(succeeded(old, b"old")) == [False]
    assert store.object(new.output_location) == b"new"
    assert len(store.told) == 1


def test_an_output_that_cannot_be_written_is_a_failure(store: Store) -> None:
    nowhere, foreign = store.accepted(1, output_location="s3://nowhere/x.out") + store.accepted(
        1, output_location="s3://foreign/x.out"
    )
    one, two = store.claim(2)
    large = Staged("nowhere", "x.out", 70_000, "e", "text/csv", segments=(("blob", 0, 70_000),))
    answers, result = store.settle_with_result(replace(succeeded(one), staged=large), succeeded(two))
    assert answers == [True, True]
    assert result.retired == ["blob"]
    for ident, why in ((nowhere, "the specified bucket does not exist"), (foreign, "access denied")):
        job = store.job(ident)
        assert (job.state, job.cause_kind) == ("failed", "upload")
        assert why in (job.cause or "")
        assert why.encode() in (store.object(job.failure_location or "") or b"")
    assert store.settle(replace(succeeded(one), staged=large)) == [True], "its content is not the dispatcher's to remove"


def test_without_topic_or_failure_path_a_failure_is_a_state(store: Store) -> None:
    store.options = AsyncOptions("s3://bucket/out")
    (ident,) = store.accepted(1, failure_location=None)
    _, result = store.settle_with_result(failed(store.claim()[0]))
    assert store.job(ident).state == "failed"
    assert store.job(ident).notice is None
    assert result.settled[0].notified is None
    assert store.told == []


def test_a_topic_that_is_gone_is_told_in_the_status(store: Store) -> None:
    store.missing_topics.add("arn:topic:good")
    (ident,) = store.accepted()
    _, result = store.settle_with_result(succeeded(store.claim()[0]))
    assert store.job(ident).state == "succeeded"
    assert store.job(ident).notice == {"topic": "arn:topic:good", "error": "there is no such topic"}
    assert result.settled[0].notified is False


def test_notifications_hold_the_answer_where_they_are_asked_to(store: Store) -> None:
    store.options = replace(OPTIONS, include_success=True, include_error=True)
    store.accepted(2)
    one, two = store.claim(2)
    store.settle(succeeded(one, b"hello"), failed(two, answer=b"bad input"))
    assert [told.get("responseBody") for _, told in store.told] == [
        {"content": "aGVsbG8=", "encoding": "BASE64"},
        {"content": "bad input"},
    ]


# Workers that die


def test_a_lost_worker_is_another_attempt_later_and_in_the_end_a_dead_letter(store: Store) -> None:
    (ident,) = store.accepted()
    for attempt, wait in ((1, 1.0), (2, 2.0)):
        (claimed,) = store.claim()
        assert claimed.attempt == attempt
        _, result = store.settle_with_result(lost(claimed))
        assert result.requeued == {store.place.key: store.now + wait}
        assert store.claim() == [], "not yet"
        assert store.write(lambda c: jobs_claims.due(c, store.now)) == ({}, store.now + wait)
        store.now += wait
        assert store.write(lambda c: jobs_claims.due(c, store.now)) == ({store.place.key: 0.0}, None)
    (claimed,) = store.claim()
    store.settle(lost(claimed, "out of memory"))
    job = store.job(ident)
    assert (job.state, job.dead, job.attempts) == ("failed", 1, 3)
    assert "3 times" in (job.cause or "")
    assert "out of memory" in (job.cause or "")
    assert store.settle(succeeded(claimed)) == [False]
    queue = store.queue().id
    dead = store.write(lambda c: jobs_queries.page(c, [queue], Wanted(states=("failed",), dead=True)))
    assert [each.id for each in dead] == [ident]
    assert len(store.told) == 1
    assert store.counters() == store.counted()


def test_a_released_request_keeps_its_place_and_costs_no_attempt(store: Store) -> None:
    ids = store.accepted(2)
    (claimed,) = store.claim()
    assert store.settle(released(claimed)) == [True]
    assert store.job(ids[0]).attempts == 0
    again, other = store.claim(2)
    assert [again.id, other.id] == ids
    assert (again.attempt, again.lease) == (1, claimed.lease + 1)


def test_a_dispatcher_that_died_is_released_before_its_lease_ends(store: Store) -> None:
    ids = store.accepted(3)
    store.claim(2, "1.a")
    store.claim(1, "2.b")
    assert store.write(jobs_claims.holders) == {"1.a", "2.b"}
    result = store.write(lambda c: jobs_claims.reap(c, store.rules, store.now, gone={"1.a"}, overdue=False))
    assert result.requeued == {store.place.key: store.now + 1.0}
    assert [store.job(each).state for each in ids] == ["queued", "queued", "running"]
    assert store.write(jobs_claims.holders) == {"2.b"}


def test_only_what_a_container_had_has_cost_an_attempt_when_a_dispatcher_dies(store: Store) -> None:
    begun, ahead = store.accepted(2)

    def die(times: int) -> None:
        for _ in range(times):
            for claimed in store.claim(2):
                if claimed.id == begun:
                    store.write(lambda c, of=claimed: jobs_claims.started(c, [(of.id, of.lease, 5.0, "v", "i-9")]))  # type: ignore[misc]
            store.write(lambda c: jobs_claims.reap(c, store.rules, store.now, gone={"1.a"}, overdue=False, told_since=since))
            store.now += 60

    since = store.now
    die(3)
    assert (store.job(begun).state, store.job(begun).dead, store.job(begun).attempts) == ("failed", 1, 3)
    assert (store.job(ahead).state, store.job(ahead).attempts) == ("queued", 0)
    die(jobs_claims.PATIENCE * 3)
    job = store.job(ahead)
    assert (job.state, job.dead, job.attempts) == ("failed", 1, 3), "it may be what the dispatchers die of"
    store.accepted()
    since = store.now + 1000
    die(3)
    assert store.counters()[store.queue().id, "failed"] == 3, "nobody knows whether a container had it"
    assert store.counters() == store.counted()


def test_a_heartbeat_renews_what_is_held_and_tells_what_is_lost(store: Store) -> None:
    mine, cancelled = store.accepted(2)
    one, two = store.claim(2)
    store.write(lambda c: jobs_claims.cancel(c, [cancelled], store.rules, store.now))
    store.now += LEASE - 1
    held = [(one.id, one.lease), (two.id, two.lease), (12345, 1)]
    assert store.write(lambda c: jobs_claims.heartbeat(c, Taker("1.a", store.now + LEASE), held)) == [cancelled, 12345]
    store.now += 2
    assert store.end(jobs_claims.reap).requeued == {}
    assert store.write(lambda c: jobs_claims.heartbeat(c, Taker("9.z", store.now + LEASE), held[:1])) == [mine]
    store.now += LEASE
    assert store.end(jobs_claims.reap).requeued != {}


def test_started_is_told_in_the_status_under_the_lease_alone(store: Store) -> None:
    (ident,) = store.accepted()
    (claimed,) = store.claim()
    store.write(lambda c: jobs_claims.started(c, [(ident, claimed.lease + 1, 5.0, "v", "i-9")]))
    assert store.job(ident).started is None
    store.write(lambda c: jobs_claims.started(c, [(ident, claimed.lease, 5.0, "v", "i-9")]))
    assert (store.job(ident).started, store.job(ident).variant, store.job(ident).instance) == (5.0, "v", "i-9")
    store.settle(lost(claimed))
    assert store.job(ident).started is None


# Time to live


def test_a_request_that_waited_too_long_is_never_claimed(store: Store) -> None:
    late = store.accepted(1, expires=store.now + 60)
    good = store.accepted(1)
    store.now += 60
    claimed, result = store.claim_with_result(5)
    assert [each.id for each in claimed] == good
    assert [(each.job.id, each.state) for each in result.settled] == [(late[0], "expired")]
    job = store.job(late[0])
    assert "60" in (job.cause or "")
    assert job.attempts == 0
    assert store.object(job.failure_location or "") == (job.cause or "").encode()
    assert [topic for topic, _ in store.told] == ["arn:topic:bad"]


def test_requests_expire_where_nobody_claims(store: Store) -> None:
    late = store.accepted(2, expires=store.now + 60)
    store.accepted(1)
    assert store.end(jobs_claims.expire).settled == []
    store.now += 61
    assert [each.job.id for each in store.end(jobs_claims.expire).settled] == late
    assert store.counters() == store.counted()


# Ends from outside


def test_cancelling_ends_what_has_not_ended(store: Store) -> None:
    queued, running, done = store.accepted(3)[::-1]
    first, second = store.claim(2)
    assert [first.id, second.id] == [done, running]
    store.settle(succeeded(first))
    result = store.write(lambda c: jobs_claims.cancel(c, [queued, running, done, 77], store.rules, store.now))
    assert {each.job.id for each in result.settled} == {queued, running}
    assert [store.job(each).state for each in (queued, running, done)] == ["cancelled", "cancelled", "succeeded"]
    assert store.object(store.job(queued).failure_location or "") == b"Cancelled by the caller."
    assert store.settle(succeeded(second)) == [False]
    assert store.job(running).state == "cancelled"
    assert store.write(lambda c: jobs_claims.cancel(c, [queued], store.rules, store.now)).settled == []
    assert store.counters() == store.counted()


def test_a_request_that_waits_for_another_attempt_can_be_cancelled(store: Store) -> None:
    (ident,) = store.accepted()
    store.settle(lost(store.claim()[0]))
    store.write(lambda c: jobs_claims.cancel(c, [ident], store.rules, store.now))
    assert (store.job(ident).state, store.job(ident).ready_at) == ("cancelled", 0.0)
    assert store.counters() == store.counted()


def test_purging_cancels_what_is_queued(store: Store) -> None:
    store.accepted(3)
    (claimed,) = store.claim()
    store.write(lambda c: jobs_claims.started(c, [(claimed.id, claimed.lease, store.now, "AllTraffic", "i-1")]))
    queue = store.queue().id
    result = store.write(lambda c: jobs_claims.purge(c, queue, store.rules, store.now))
    assert len(result.settled) == 2
    assert store.write(lambda c: jobs_claims.purge(c, queue, store.rules, store.now)).settled == []
    assert store.settle(succeeded(claimed)) == [True]


def test_requests_of_an_endpoint_that_is_gone_fail_and_say_so(store: Store) -> None:
    queued, running = store.accepted(2)[::-1]
    (claimed,) = store.claim()
    assert store.end(jobs_claims.orphans).settled == [], "it is in service"
    queue = store.queue().id
    store.delete()
    store.serve()
    assert store.claim() == [], "the endpoint that has the name now is another one"
    result = store.end(jobs_claims.orphans)
    assert {each.job.id for each in result.settled} == {queued, running}
    assert store.job(queued).cause == "The endpoint was deleted before the request was processed."
    assert store.job(running).cause == "The endpoint was deleted while the request was being processed."
    assert store.object(store.job(queued).failure_location or "") is not None
    assert [topic for topic, _ in store.told] == ["arn:topic:bad"] * 2
    assert store.settle(succeeded(claimed)) == [False]
    assert store.end(jobs_claims.orphans).settled == []
    assert store.counted() == store.counters() == {(queue, "failed"): 2}


def test_a_request_whose_worker_went_with_its_endpoint_was_being_processed(store: Store) -> None:
    (ident,) = store.accepted()
    (claimed,) = store.claim()
    store.settle(lost(claimed))
    store.delete()
    store.end(jobs_claims.orphans)
    assert store.job(ident).cause == "The endpoint was deleted while the request was being processed."


def test_requests_of_an_endpoint_that_failed_say_why(store: Store) -> None:
    (ident,) = store.accepted()
    store.write(lambda c: c.exec_driver_sql("UPDATE resources SET status = 'Failed', reason = 'no model'"))
    store.end(jobs_claims.orphans)
    assert store.job(ident).cause == "The endpoint failed (no model) before the request was processed."


@pytest.mark.parametrize("status", ["Updating", "SystemUpdating", "RollingBack"])
def test_requests_of_an_endpoint_in_transition_are_served(store: Store, status: str) -> None:
    store.accepted()
    store.write(lambda c: c.exec_driver_sql(f"UPDATE resources SET status = '{status}'"))
    assert store.end(jobs_claims.orphans).settled == []
    assert len(store.claim()) == 1


# An external object store


def test_with_an_external_store_the_winner_publishes_before_the_request_ends(store: Store) -> None:
    store.external = True
    (ident,) = store.accepted()
    (claimed,) = store.claim()
    staged = Staged("bucket", "out/x.out", 3, "e", "text/csv", attempt_key="attempts/1")
    won = replace(succeeded(claimed), staged=staged)
    assert store.settle(won) == [True]
    assert store.settle(won) == [True]
    assert (store.job(ident).state, store.told) == ("running", [])
    assert store.write(lambda c: jobs_claims.cancel(c, [ident], store.rules, store.now)).settled == [], "too late"
    assert store.settle(replace(won, kind="published", staged=None)) == [True]
    assert store.job(ident).state == "succeeded"
    assert store.told[0][1]["responseParameters"]["contentType"] == "text/csv"
    assert store.settle(replace(won, kind="published", staged=None)) == [True]


def test_what_was_won_and_not_published_is_published_by_the_next_one(store: Store) -> None:
    store.external = True
    (ident,) = store.accepted(1, expires=store.now + 60)
    (claimed,) = store.claim()
    staged = Staged("bucket", "out/x.out", 3, "e", "text/csv", attempt_key="attempts/1")
    store.settle(replace(succeeded(claimed), staged=staged))
    store.now += 100
    store.end(jobs_claims.reap)
    assert store.end(jobs_claims.expire).settled == [], "it was processed in time"
    (again,) = store.claim()
    assert (again.publish, again.attempt) == (staged, 1)
    store.write(lambda c: jobs_claims.reap(c, store.rules, store.now, gone={"1.a"}, overdue=False))
    store.delete()
    assert store.end(jobs_claims.orphans).settled == []
    (third,) = store.claim(holder="2.b")
    assert third.publish == staged
    assert store.settle(replace(succeeded(third), kind="published", staged=None)) == [True]
    assert store.job(ident).state == "succeeded"
    assert store.counters() == store.counted()


def test_what_was_won_for_an_endpoint_that_is_gone_waits_for_control(store: Store) -> None:
    store.external = True
    (ident,) = store.accepted()
    staged = Staged("bucket", "out/x.out", 3, "e", "text/csv", attempt_key="attempts/1")
    store.settle(replace(succeeded(store.claim()[0]), staged=staged))
    store.write(lambda c: jobs_claims.reap(c, store.rules, store.now, gone={"1.a"}, overdue=False))
    assert store.write(jobs_publications.unpublished) == [], "dispatchers claim it"
    store.delete()
    assert store.write(jobs_publications.unpublished) == [(ident, staged)]
    assert len(store.end(jobs_publications.published, [ident]).settled) == 1
    assert (store.job(ident).state, len(store.told)) == ("succeeded", 1)
    assert store.end(jobs_publications.published, [ident]).settled == []
    assert store.write(jobs_publications.unpublished) == []
    assert store.counters() == store.counted()


def test_failure_objects_are_owed_to_an_external_store(store: Store) -> None:
    store.external = True
    (ident,) = store.accepted()
    store.settle(failed(store.claim()[0], answer=None))
    location = store.job(ident).failure_location
    assert store.write(jobs_claims.owed) == [(ident, "1", location, "It said no.")]
    assert store.write(lambda c: jobs_claims.forget(c, store.now + 1e6)) == 0, "not before it is paid"
    store.write(lambda c: jobs_claims.paid(c, [ident]))
    assert store.write(jobs_claims.owed) == []


# Records


def test_old_records_are_forgotten_and_queues_of_endpoints_that_are_gone(store: Store) -> None:
    old, new = store.accepted(2)
    one, two = store.claim(2)
    store.settle(succeeded(one))
    store.now += 1000
    store.settle(succeeded(two))
    assert store.write(lambda c: jobs_claims.forget(c, store.now - 500)) == 1
    assert store.write(lambda c: (jobs.get(c, old), jobs.get(c, new) is not None)) == (None, True)
    assert store.write(lambda c: jobs_claims.forget(c, store.now - 500)) == 0
    store.delete()
    assert store.write(lambda c: jobs_claims.forget(c, store.now + 1)) == 1
    assert store.write(lambda c: jobs_claims.forget(c, store.now + 1)) == 1, "the queue"
    assert store.write(jobs.every_queue) == []


def test_pages_filters_and_positions(store: Store) -> None:
    early = store.accepted(3)
    store.now += 10
    late = store.accepted(2)
    (claimed,) = store.claim()
    store.settle(lost(claimed))
    queue = store.queue().id

    def page(**wanted: object) -> list[int]:
        return [job.id for job in store.write(lambda c: jobs_queries.page(c, [queue], Wanted(**wanted)))]  # type: ignore[arg-type]

    assert page() == early + late
    assert page(newest_first=True, limit=2) == late[::-1]
    assert page(after=early[1], limit=2) == [early[2], late[0]]
    assert page(newest_first=True, after=late[0]) == early[::-1]
    assert page(states=("running",)) == []
    assert page(received_after=store.now) == late
    assert page(received_before=store.now - 5) == early
    jobs_of = [store.job(each) for each in late]
    positions = store.write(lambda c: [jobs_queries.position(c, job) for job in jobs_of])
    assert positions == [2, 3], "the one that waits for another attempt is not before them now"
    counted = store.queue()
    assert store.write(lambda c: jobs_queries.oldest(c, counted)) == store.now - 10


def test_one_inference_id_may_name_several_requests(store: Store) -> None:
    ids = store.accepted(2, inference_id="same") + store.accepted(1, inference_id="other")
    found = store.write(lambda c: jobs_queries.by_inference_id(c, "1", "eu-central-1", "same"))
    assert [job.id for job, _ in found] == ids[:2]
    assert {queue.place for _, queue in found} == {store.place}
    assert store.write(lambda c: jobs_queries.by_inference_id(c, "2", "eu-central-1", "same")) == []


def test_the_endpoint_is_found_by_its_exact_name_with_what_it_serves(store: Store) -> None:
    found = store.write(lambda c: jobs_places.find(c, "1", "eu-central-1", "Echo"))
    assert found is not None
    assert found.serving
    assert found.place == store.place
    assert store.write(lambda c: jobs_places.options(c, store.place)) == OPTIONS
    assert store.write(lambda c: jobs_places.find(c, "1", "eu-central-1", "echo")) is None
    assert store.write(lambda c: jobs_places.find(c, "2", "eu-central-1", "Echo")) is None
