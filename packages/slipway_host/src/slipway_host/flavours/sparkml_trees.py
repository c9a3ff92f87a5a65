"""Decision trees of MLeap bundles: `tree.json` has a node per line, each before its left and then its right subtree."""

from __future__ import annotations

import json
import math
from typing import Any

from .sparkml_bundle import Attributes, Files, Source, broken, entry_name

DEEPEST = 1_000
"""Spark's own limit is 30."""


class Tree:
    """Nodes by number; the left child of a node is the next one."""

    __slots__ = ("categories", "features", "leaves", "rights", "thresholds")

    def __init__(self) -> None:
        self.features: list[int] = []
        """The feature that a node looks at; -1: it is a leaf."""
        self.thresholds: list[float] = []
        self.categories: dict[int, tuple[frozenset[float], bool]] = {}
        """Of nodes that look at a categorical feature: the categories, and whether these go left."""
        self.rights: list[int] = []
        self.leaves: dict[int, list[float]] = {}

    def leaf(self, features: Any) -> list[float]:
        """The values of the leaf that these features lead to."""
        at = 0
        while True:
            feature = self.features[at]
            if feature < 0:
                return self.leaves[at]
            value = features[feature]
            if at in self.categories:
                categories, left = self.categories[at]
                goes_left = (value in categories) == left
            else:
                goes_left = value <= self.thresholds[at]
            at = at + 1 if goes_left else self.rights[at]


def read(files: Files, folder: str, features: int, values: int) -> Tree:
    """The tree in `folder`. `values`: of a leaf; one for a regression. Raises LoadError."""
    path = f"{folder}/tree.json"
    tree = Tree()
    waiting: list[int] = []  # nodes on the way from the root whose right subtree is to come
    done = False
    for line in files.text(path).splitlines():
        if done:
            if line.strip():
                raise broken(f"{path} goes on behind its tree")
            continue
        try:
            node = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise broken(f"{path} has a line that is no JSON") from error
        kind = node.get("type") if isinstance(node, dict) else None
        number = len(tree.features)
        if kind == "internal":
            _split(tree, node.get("split"), features, path)
            waiting.append(number)
            if len(waiting) > DEEPEST:
                raise broken(f"{path} has a tree that is deeper than {DEEPEST}")
            continue
        if kind != "leaf":
            raise broken(f"{path} has a node of type {str(kind)[:40]!r}")
        tree.leaves[number] = _leaf(node.get("values"), values, path)
        _add(tree, -1, math.nan)
        if waiting:
            tree.rights[waiting.pop()] = number + 1
        else:
            done = True
    if not done:
        raise broken(f"{path} ends before its tree does")
    return tree


def _add(tree: Tree, feature: int, threshold: float) -> None:
    tree.features.append(feature)
    tree.thresholds.append(threshold)
    tree.rights.append(-1)


def _split(tree: Tree, split: Any, features: int, path: str) -> None:
    kind = split.get("type") if isinstance(split, dict) else None
    feature = split.get("featureIndex", 0) if kind else None
    if type(feature) is not int or not 0 <= feature < features:
        raise broken(f"{path} splits by feature {str(feature)[:40]}, where there are {features}")
    threshold = split.get("threshold", 0.0)
    if kind == "categorical":
        categories, left = split.get("categories"), split.get("isLeft", False)
        if not isinstance(categories, list) or not all(type(item) in (int, float) for item in categories):
            raise broken(f"{path} has a split with categories that are no numbers")
        tree.categories[len(tree.features)] = (frozenset(map(float, categories)), left is True)
        threshold = math.nan
    elif kind != "continuous" or type(threshold) not in (int, float):
        raise broken(f"{path} has a split of type {str(kind)[:40]!r} with threshold {str(threshold)[:40]!r}")
    _add(tree, feature, float(threshold))


def _leaf(values: Any, count: int, path: str) -> list[float]:
    if not isinstance(values, list) or len(values) != count or not all(type(value) in (int, float) for value in values):
        raise broken(f"{path} has a leaf with values {str(values)[:60]}, where there must be {count} numbers")
    return [float(value) for value in values]


def read_all(source: Source, features: int, values: int) -> list[Tree]:
    """The trees of an ensemble. Raises LoadError."""
    names: list[str] | None = source.attributes.words("trees")
    if not names:
        raise source.attributes.wrong("it has no trees")
    trees = []
    for name in names:
        folder = f"{source.folder}/{entry_name(name, source.attributes.where)}"
        model = source.files.json(f"{folder}/model.json")
        attributes = Attributes(model.get("attributes"), f"{folder}/model.json", str(model.get("op"))[:80])
        if model.get("op") not in ("decision_tree_regression", "decision_tree_classifier"):
            raise attributes.wrong("it is no decision tree")
        trees.append(read(source.files, folder, features, values))
    return trees
