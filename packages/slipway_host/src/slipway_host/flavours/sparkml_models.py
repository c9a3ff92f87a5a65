"""Models of MLeap bundles: linear and logistic regression, trees and their ensembles, k-means.

As combust/mleap, mleap-runtime: bundle/ops/{classification,regression,clustering} store them.
"""

from __future__ import annotations

import math
from typing import Any, Callable

from . import sparkml_trees
from .sparkml_bundle import Source, Step
from .sparkml_values import Vector, as_vector, dense

_Raw = Callable[[Vector], list[float]]
"""From features to the raw prediction of each class."""


def _dot(vector: Vector, weights: list[float]) -> float:
    return sum(value * weights[index] for index, value in vector.items())


def _sigmoid(value: float) -> float:
    try:
        return 1.0 / (1.0 + math.exp(-value))
    except OverflowError:
        return 0.0


def _regression(source: Source, size: int, predict: Callable[[Vector], Any]) -> Step:
    if "prediction" in source.outputs:  # MLeap's Python exporter names a classifier's other ports too
        for port in [port for port in source.outputs if port != "prediction"]:
            del source.outputs[port]
    source.columns(1)
    return lambda value: predict(as_vector(value, size))


def linear_regression(source: Source) -> Step:
    weights, intercept = source.attributes.numbers("coefficients"), source.attributes.number("intercept")
    return _regression(source, len(weights), lambda vector: _dot(vector, weights) + intercept)


def _classifier(
    source: Source, size: int, raw: _Raw, probable: Callable[[list[float]], list[float]], decide: Callable[[list[float]], int]
) -> Step:
    """A step whose outputs are those of the ports `raw_prediction`, `probability` and `prediction` that the stage has."""
    ports = list(source.outputs)
    if len(source.inputs) != 1 or not ports or not set(ports) <= {"raw_prediction", "probability", "prediction"}:
        raise source.attributes.wrong(f"it has the output ports {', '.join(ports)[:100]}")

    def classify(value: Any) -> Any:
        margins = raw(as_vector(value, size))
        probabilities = probable(margins)
        made: dict[str, Any] = {
            "raw_prediction": dense(margins),
            "probability": dense(probabilities),
            "prediction": float(decide(probabilities)),
        }
        return tuple(made[port] for port in ports) if len(ports) > 1 else made[ports[0]]

    return classify


def _largest(values: list[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _decision(source: Source, classes: int) -> Callable[[list[float]], int]:
    """The most probable class, or of the largest share of its threshold. Raises LoadError."""
    attributes = source.attributes
    if not attributes.has("thresholds"):
        return _largest
    thresholds = attributes.numbers("thresholds")
    if len(thresholds) != classes:
        raise attributes.wrong(f"{len(thresholds)} thresholds for {classes} classes")

    def decide(probabilities: list[float]) -> int:
        return _largest([p / t if t != 0.0 else math.inf for p, t in zip(probabilities, thresholds)])

    return decide


def logistic_regression(source: Source) -> Step:
    attributes = source.attributes
    classes = attributes.integer("num_classes", 2, 100_000)
    if classes > 2:
        return _multinomial(source, classes)
    weights, intercept = attributes.numbers("coefficients"), attributes.number("intercept")
    threshold = attributes.number("threshold") if attributes.has("threshold") else 0.5

    def raw(vector: Vector) -> list[float]:
        margin = _dot(vector, weights) + intercept
        return [-margin, margin]

    def probable(margins: list[float]) -> list[float]:
        return [_sigmoid(margin) for margin in margins]

    return _classifier(source, len(weights), raw, probable, lambda found: 1 if found[1] > threshold else 0)


def _multinomial(source: Source, classes: int) -> Step:
    rows, intercepts = source.attributes.matrix("coefficient_matrix"), source.attributes.numbers("intercept_vector")
    if len(rows) != classes or len(intercepts) != classes:
        raise source.attributes.wrong(
            f"{len(rows)} rows of coefficients and {len(intercepts)} intercepts for {classes} classes"
        )

    def raw(vector: Vector) -> list[float]:
        return [_dot(vector, row) + intercept for row, intercept in zip(rows, intercepts)]

    def probable(margins: list[float]) -> list[float]:
        largest = max(margins)
        if largest == math.inf:
            first = margins.index(largest)
            return [1.0 if i == first else 0.0 for i in range(len(margins))]
        shares = [math.exp(margin - max(largest, 0.0)) for margin in margins]
        total = sum(shares)
        return [share / total for share in shares]

    return _classifier(source, len(rows[0]), raw, probable, _decision(source, classes))


def _normalized(values: list[float]) -> list[float]:
    total = sum(values)
    return [value / total for value in values] if total != 0.0 else values


def decision_tree_classifier(source: Source) -> Step:
    features, classes = source.attributes.integer("num_features", 1), source.attributes.integer("num_classes", 1)
    tree = sparkml_trees.read(source.files, source.folder, features, classes)
    return _classifier(source, features, lambda vector: tree.leaf(vector.lookup()), _normalized, _decision(source, classes))


def random_forest_classifier(source: Source) -> Step:
    features, classes = source.attributes.integer("num_features", 1), source.attributes.integer("num_classes", 1)
    trees = sparkml_trees.read_all(source, features, classes)

    def raw(vector: Vector) -> list[float]:
        votes = [0.0] * classes
        look = vector.lookup()
        for tree in trees:
            counts = tree.leaf(look)
            total = sum(counts)
            if total != 0.0:
                for i, count in enumerate(counts):
                    votes[i] += count / total
        return votes

    return _classifier(source, features, raw, _normalized, _decision(source, classes))


def gbt_classifier(source: Source) -> Step:
    attributes = source.attributes
    features = attributes.integer("num_features", 1)
    if attributes.integer("num_classes") != 2 or attributes.word("lossType", "logistic") != "logistic":
        raise attributes.wrong("only two classes with logistic loss are supported")
    margin = _boosted(source, features)
    decide = _decision(source, 2)

    def raw(vector: Vector) -> list[float]:
        found = margin(vector)
        return [-found, found]

    def probable(margins: list[float]) -> list[float]:
        first = _sigmoid(2.0 * margins[0])
        return [first, 1.0 - first]

    return _classifier(source, features, raw, probable, decide)


def _boosted(source: Source, features: int) -> Callable[[Vector], float]:
    """The sum of the trees' predictions by their weights."""
    trees = sparkml_trees.read_all(source, features, 1)
    weights: list[float] | None = source.attributes.numbers("tree_weights")
    if weights is None or len(weights) != len(trees):
        raise source.attributes.wrong("there are not as many tree_weights as trees")

    def total(vector: Vector) -> float:
        look = vector.lookup()
        return sum(tree.leaf(look)[0] * weight for tree, weight in zip(trees, weights))

    return total


def decision_tree_regression(source: Source) -> Step:
    features = source.attributes.integer("num_features", 1)
    tree = sparkml_trees.read(source.files, source.folder, features, 1)
    return _regression(source, features, lambda vector: tree.leaf(vector.lookup())[0])


def random_forest_regression(source: Source) -> Step:
    features = source.attributes.integer("num_features", 1)
    trees = sparkml_trees.read_all(source, features, 1)

    def predict(vector: Vector) -> float:
        look = vector.lookup()
        return sum(tree.leaf(look)[0] for tree in trees) / len(trees)

    return _regression(source, features, predict)


def gbt_regression(source: Source) -> Step:
    features = source.attributes.integer("num_features", 1)
    return _regression(source, features, _boosted(source, features))


def k_means(source: Source) -> Step:
    centers = source.attributes.tensors("cluster_centers")
    if not centers or len({len(center) for center in centers}) != 1:
        raise source.attributes.wrong("its centers have different lengths")
    lengths = [sum(value * value for value in center) for center in centers]

    def nearest(vector: Vector) -> int:
        # |c - v|² without |v|², which is the same for all
        distances = [length - 2.0 * _dot(vector, center) for center, length in zip(centers, lengths)]
        return distances.index(min(distances))

    return _regression(source, len(centers[0]), nearest)


OPS: dict[str, Callable[[Source], Step]] = {
    "decision_tree_classifier": decision_tree_classifier,
    "decision_tree_regression": decision_tree_regression,
    "gbt_classifier": gbt_classifier,
    "gbt_regression": gbt_regression,
    "k_means": k_means,
    "linear_regression": linear_regression,
    "logistic_regression": logistic_regression,
    "random_forest_classifier": random_forest_classifier,
    "random_forest_regression": random_forest_regression,
}
