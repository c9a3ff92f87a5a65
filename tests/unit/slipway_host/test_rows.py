"""Rows of several requests joined and divided: numpy, scipy, pandas, DMatrix, lists; scikit-learn's and XGBoost's defaults."""

from __future__ import annotations

import json
import subprocess

import pytest

from slipway_host import batching, frames, rows

from .running import Host
from .test_sklearn import MODEL_FN, npy, trained  # noqa: F401  a fixture

TOGETHER = {batching.SIZE: "4", batching.DELAY: "5000"}
JSON = {"Content-Type": "application/json"}
CHECKS = """
import importlib.util, sys, types
package = types.ModuleType("host"); package.__path__ = [sys.argv[1]]; sys.modules["host"] = package
rows = importlib.import_module("host.rows")
import numpy as np, pandas as pd, scipy.sparse as sp, xgboost as xgb
a, b = np.arange(6.0).reshape(3, 2), np.ones((1, 2))
frame = pd.DataFrame({"x": [1, 2], "y": [3.0, 4.0]}, index=[7, 8])
for one, two in ((a, b), (sp.csr_matrix(a), sp.csr_matrix(b)), (frame, frame)):
    assert rows.likeness(one) == rows.likeness(two) is not None
    joined = rows.join([one, two])
    assert type(joined) is type(one) and joined.shape == (one.shape[0] + two.shape[0], 2)
    first, second = rows.split(joined, [rows.count(one), rows.count(two)])
    plain = lambda table: table.toarray() if sp.issparse(table) else np.asarray(table)
    assert (plain(first) == plain(one)).all()
    assert second.shape == two.shape
assert list(rows.join([frame, frame]).index) == [0, 1, 2, 3]
different = [a, a.astype("float32"), np.ones((1, 3)), sp.csr_matrix(a), frame, frame.astype("float32"), xgb.DMatrix(a)]
assert len({rows.likeness(each) for each in different}) == len(different)
assert {rows.likeness(each) for each in (np.arange(3), np.float64(1), {}, "text", None, frame["x"])} == {None}
holes = np.array([[1.0, np.nan], [0.0, 2.0]], "float32")
booster = xgb.train({"nthread": 1}, xgb.DMatrix(np.random.rand(50, 2), np.arange(50) % 2), 5)
joined = rows.join([xgb.DMatrix(holes), xgb.DMatrix(holes[1:])])
assert (booster.predict(joined) == booster.predict(xgb.DMatrix(holes[[0, 1, 1]]))).all()
assert rows.count(joined) == 3
assert rows.likeness(xgb.DMatrix(holes, weight=[1, 2])) is rows.likeness(xgb.DMatrix(holes, feature_names=["a", "b"])) is None
pairs = rows.split((a, {"n": a[:, 0]}), [1, 2])
assert [len(part[0]) for part in pairs] == [1, 2] and pairs[1][1]["n"].tolist() == [2.0, 4.0]
print("good")
"""
BOOSTER = """
import sys, numpy as np, xgboost as xgb
x = np.random.RandomState(0).rand(200, 2)
xgb.train({"objective": "reg:squarederror", "nthread": 1}, xgb.DMatrix(x, x[:, 0] + x[:, 1]), 20).save_model(sys.argv[1])
"""


def ask_together(host: Host, *requests: tuple[bytes, dict[str, str]], begun: int) -> list[tuple[int, bytes]]:
    client = host.frames()
    for ident, (body, headers) in enumerate(requests, 1):
        client.send(ident, body, headers)
    assert client.frame()[:2] == (frames.BEGUN, begun)
    return [(status, body) for _, _, (status, _, _), body in (client.frame() for _ in requests)]


def test_every_kind_of_table(sklearn_env: str) -> None:
    folder = rows.__file__.rpartition("/")[0]
    done = subprocess.run([sklearn_env, "-W", "error", "-c", CHECKS, folder], capture_output=True, text=True, check=False)
    assert done.stdout == "good\n", done.stderr


@pytest.mark.parametrize(
    ("predicted", "says"), [([1, 2], "2 predictions for 3 rows of 2"), (5, "a int for 3"), ("abc", "a str")]
)
def test_predictions_that_cannot_be_divided(predicted: object, says: str) -> None:
    with pytest.raises(rows.NotRows, match=says):
        rows.split(predicted, [1, 2])


def test_scikit_learn_predicts_the_rows_of_several_requests_in_one_call(
    host: Host,
    sklearn_env: str,
    trained: bytes,  # noqa: F811
) -> None:
    host.python = sklearn_env
    (host.model / "model.joblib").write_bytes(trained)
    counting = MODEL_FN + (
        "load = model_fn\ndef model_fn(d):\n    model = load(d)\n    inner = model.predict\n    def predict(rows):\n"
        "        print('rows', len(rows), flush=True)\n        return inner(rows)\n    model.predict = predict\n"
        "    return model\n"
    )
    host.script(counting)
    host.start(TOGETHER)
    found = ask_together(
        host,
        (b"[[1, 1], [2, 2]]", JSON),
        (b"3,3", {"Content-Type": "text/csv", "Accept": "text/csv"}),
        (npy([[4.0, 4.0]]), {"Content-Type": "application/x-npy"}),  # of another precision: a call of its own
        (b"[[1, 1, 1]]", JSON),
        begun=4,
    )
    assert json.loads(found[0][1]) == pytest.approx([6.0, 9.0])
    assert float(found[1][1]) == pytest.approx(12.0)
    assert json.loads(found[2][1]) == pytest.approx([15.0])
    assert found[3][0] == 500
    assert b"3 features" in found[3][1]
    assert [line for line in host.output().splitlines() if line.startswith("rows ")] == ["rows 3", "rows 1", "rows 1"]


def test_xgboost_without_a_script(host: Host, sklearn_env: str) -> None:
    host.python = sklearn_env
    host.config["flavour"] = "xgboost"
    subprocess.run([sklearn_env, "-c", BOOSTER, str(host.model / "xgboost-model.json")], check=True)
    host.start(TOGETHER)
    csv, libsvm = {"Content-Type": "text/csv"}, {"Content-Type": "text/libsvm", "Accept": "application/json"}
    found = ask_together(
        host, (b"0.1,0.2\n0.5,0.5", csv), (b"", csv), (b"0.3,nonsense", csv), (b"1:0.5 2:0.5", libsvm), begun=4
    )
    assert [status for status, _ in found] == [200, 204, 415, 200]
    low, high = (float(line) for line in found[0][1].split())
    assert (low, high) == pytest.approx((0.3, 1.0), abs=0.1)
    assert json.loads(found[3][1])["predictions"][0]["score"] == pytest.approx(high, rel=1e-6)
