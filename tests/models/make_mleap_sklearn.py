"""`python make_mleap_sklearn.py OUT.json`: bundles that MLeap's own Python exporter writes, and what scikit-learn answers.

In the form of make_sparkml.py's cases.
"""

import importlib
import json
import os
import sys
import tempfile

import numpy as np
import pandas as pd
from mleap.sklearn.preprocessing.data import FeatureExtractor, LabelEncoder
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Binarizer, MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

for module in ("base", "logistic", "pipeline", "tree.tree", "ensemble.forest"):
    importlib.import_module(f"mleap.sklearn.{module}")  # each gives classes of scikit-learn the means to be written
chance = np.random.RandomState(5)
NAMES = ["a", "b", "c"]
DATA = pd.DataFrame(chance.randint(-8, 9, (60, 3)) / 4.0, columns=NAMES)  # what singles hold exactly: trees cast to them
NUMBER = DATA["a"] * 2 - DATA["b"] + 0.5
CLASS = (NUMBER > 0).astype(int)
ROWS = DATA.iloc[:6]
COLUMNS = [{"name": name, "type": "double", "struct": "basic"} for name in NAMES]
DOUBLE, VECTOR = {"type": "double", "struct": "basic"}, {"type": "double", "struct": "vector"}
cases = []


def files_of(folder):
    return {
        os.path.relpath(os.path.join(root, name), folder): open(os.path.join(root, name), encoding="utf-8").read()
        for root, _, names in os.walk(folder)
        for name in names
    }


def saved(steps, init):
    pipeline = Pipeline(steps)
    with tempfile.TemporaryDirectory() as folder:
        pipeline.mlinit()
        pipeline.serialize_to_bundle(folder, "model", init=init)
        return files_of(os.path.join(folder, "model"))


def extractor():
    made = FeatureExtractor(input_scalars=NAMES, output_vector="features", output_vector_items=NAMES)
    made.fit(DATA)
    return made


def add(name, files, column, kind, expected, columns=COLUMNS, rows=None):
    rows = ROWS.values.tolist() if rows is None else rows
    output = {"name": column, **kind}
    ops = [json.loads(text)["op"] for path, text in files.items() if path.endswith(".node/model.json")]
    cases.append({"name": f"sklearn-{name}", "ops": ops, "files": files, "input": columns, "outputs": [output],
                  "rows": rows, "expected": [[value] for value in expected]})  # fmt: skip


for name, scaler in (("standard", StandardScaler()), ("min-max", MinMaxScaler()), ("binarizer", Binarizer(threshold=0.3))):
    first = extractor()
    scaler.fit(DATA)
    scaler.mlinit(prior_tf=first, output_features="scaled")
    files = saved([("extract", first), (name, scaler)], True)
    add(name, files, "scaled", VECTOR, scaler.transform(ROWS).tolist())

models = {
    "linear": (LinearRegression(), NUMBER.to_frame()), "logistic": (LogisticRegression(), CLASS),
    "tree": (DecisionTreeClassifier(max_depth=3), CLASS), "tree-regression": (DecisionTreeRegressor(max_depth=3), NUMBER),
    "forest": (RandomForestClassifier(5, max_depth=3, random_state=1), CLASS),
    "forest-regression": (RandomForestRegressor(5, max_depth=3, random_state=1), NUMBER),
}  # fmt: skip
for name, (model, target) in models.items():
    first = extractor()
    model.fit(DATA.values, target.values)
    extra = {"feature_names": NAMES} if "tree" in name or "forest" in name else {}
    model.mlinit(input_features="features", prediction_column="prediction", **extra)
    files = saved([("extract", first), (name, model)], True)
    add(name, files, "prediction", DOUBLE, [float(value) for value in np.ravel(model.predict(ROWS.values))])

column = pd.DataFrame({"x": [1.0, np.nan, 4.0, 7.0, np.nan]})
imputer = SimpleImputer(strategy="mean")
imputer.fit(column)
imputer.input_features, imputer.output_features, imputer.name = "x", "filled", "imputer_1"
add("imputer", saved([("imputer", imputer)], True), "filled", DOUBLE, np.ravel(imputer.transform(column)).tolist(),
    [{"name": "x", "type": "double", "struct": "basic"}], column.values.tolist())  # fmt: skip

words = ["red", "green", "blue", "red"]
encoder = LabelEncoder(input_features="w", output_features="i")
encoder.fit(words)
add("labels", saved([("labels", encoder)], True), "i", DOUBLE, [float(i) for i in encoder.transform(words)],
    [{"name": "w", "type": "string", "struct": "basic"}], [[word] for word in words])  # fmt: skip

with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump({"cases": cases}, file, separators=(",", ":"))
    file.write("\n")
