"""DataProcessing record by record: the table of containers.md 7.5."""

from __future__ import annotations

import pytest

from slipway.core.transform_joins import CSV, JSON, BadRecord, Processing, checked_path, kind_of, results, split_row
from slipway.core.transform_paths import parse

ROW = b'7,"Doe, ""J""",1.50,2'


def csv(input_filter: str = "$", output_filter: str = "$", *, join: bool = False) -> Processing:
    return Processing(CSV, CSV, parse(input_filter), parse(output_filter), join)


def test_csv_is_filtered_joined_and_filtered_again_as_it_was_written() -> None:
    assert split_row(ROW) == [b"7", b'"Doe, ""J"""', b"1.50", b"2"]
    assert csv("$[2:]").request(ROW) == b"1.50,2"
    assert csv(join=True).result(ROW, b"0.9,yes") == ROW + b",0.9,yes"
    assert csv(output_filter="$[0,-1]", join=True).result(ROW, b"0.9") == b"7,0.9"
    assert csv(output_filter="$[1]").result(ROW, b"0.9,yes") == b"yes"


@pytest.mark.parametrize("line", [b'a"b,c', b'"a,b', b'"a"b,c'])
def test_quotes_in_the_wrong_place(line: bytes) -> None:
    with pytest.raises(BadRecord, match='"'):
        split_row(line)


def test_an_object_gets_the_result_under_a_key_of_its_own() -> None:
    joined = Processing(JSON, JSON, join=True)
    assert joined.result(b'{"a":1,"SageMakerOutput":2}', b"[0.5]") == b'{"a":1,"SageMakerOutput":[0.5]}'
    assert joined.result(b"[1,2]", b'{"p":"\xc3\xa9"}') == b'{"SageMakerInput":[1,2],"SageMakerOutput":{"p":"\xc3\xa9"}}'
    chosen = Processing(JSON, JSON, parse("$.features"), parse("$['id','SageMakerOutput']"), True)
    record = b'{"id": "x", "features": [1, 2]}'
    assert chosen.request(record) == b"[1,2]"
    assert chosen.result(record, b"3") == b'{"id":"x","SageMakerOutput":3}'


def test_without_a_join_csv_may_go_in_and_json_come_out() -> None:
    mixed = Processing(CSV, JSON, output_filter=parse("$['class']"))
    assert mixed.request(b"1,2") == b"1,2"
    assert mixed.result(b"1,2", b'{"class":"a","p":1}') == b'"a"'


@pytest.mark.parametrize(
    ("processing", "record", "answer", "said"),
    [
        (csv("$[9]"), b"1,2", b"", "InputFilter \\$\\[9\\] finds nothing: index 9 is outside its 2 elements"),
        (csv(output_filter="$[5]", join=True), b"1,2", b"3", "OutputFilter .* index 5 is outside its 3 elements"),
        (Processing(JSON, JSON, parse("$.a")), b"{", b"", "not valid JSON"),
        (Processing(JSON, JSON, join=True), b"{}", b"oops", "not valid JSON.*oops"),
        (Processing(JSON, JSON, parse("$.a")), b'{"b":1}', b"", 'there is no "a"'),
    ],
)
def test_what_cannot_be_processed_says_why(processing: Processing, record: bytes, answer: bytes, said: str) -> None:
    def through() -> None:
        processing.request(record)
        processing.result(record, answer)

    with pytest.raises(BadRecord, match=said):
        through()


def test_results_are_lines() -> None:
    assert results(b"1\n2\r\n3") == [b"1", b"2", b"3"]
    assert results(b"1\n") == [b"1"]
    assert results(b"") == []


def test_filters_are_checked_in_the_words_of_aws() -> None:
    with pytest.raises(
        ValueError, match=r'Invalid OutputFilter: "\$\[\?\]"\. Unexpected "\?" in JsonPath\. Supported operators for'
    ):
        checked_path("OutputFilter", "$[?]", "application/jsonlines")
    with pytest.raises(ValueError, match="have no names"):
        checked_path("InputFilter", "$.a", "text/csv")
    assert checked_path("InputFilter", None, "text/csv").whole
    assert checked_path("OutputFilter", "$.under_score", "application/jsonlines").text == "$.under_score"


def test_content_types() -> None:
    assert kind_of("text/csv; charset=utf-8") == CSV
    assert kind_of("application/jsonlines") == JSON
    assert kind_of("image/png") is None
    assert kind_of(None) is None
