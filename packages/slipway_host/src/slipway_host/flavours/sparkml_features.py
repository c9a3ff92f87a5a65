"""Feature transformers of MLeap bundles that work on numbers and vectors: indexers, encoders, scalers, assemblers.

Each builder reads a stage's attributes (combust/mleap, mleap-runtime: bundle/ops/feature) and returns its step. Where MLeap's
evaluator and Spark's transformer differ, Spark's result is ours.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any, Callable

from .sparkml_bundle import Source, Step
from .sparkml_values import Refused, Vector, as_double, as_text, as_vector, dense, sparse

SKIPPED = "next on empty iterator"
"""What the container says of a row that handleInvalid="skip" leaves out: there is nothing to answer with."""
MOST_OUTPUTS = 1_000_000
"""Elements of a vector that a transformer makes out of a smaller one."""


def _handling(source: Source, default: str = "error") -> str:
    found = source.attributes.word("handle_invalid", default)
    if found not in ("error", "skip", "keep"):
        raise source.attributes.wrong(f"handle_invalid is {found[:40]!r}, not error, skip or keep")
    return found


def _listed(steps: list[Callable[[Any], Any]]) -> Step:
    """One step over as many columns."""
    if len(steps) == 1:
        return steps[0]
    return lambda *values: tuple(step(value) for step, value in zip(steps, values))


def string_indexer(source: Source) -> Step:
    attributes = source.attributes
    count = attributes.integer("labels_length", 1) if attributes.has("labels_length") else 0
    lists = [attributes.words(f"labels_array_{i}") for i in range(min(count, 5000))] or [attributes.words("labels")]
    source.columns(len(lists))
    handling = _handling(source)
    return _listed([_indexer(labels, handling) for labels in lists])


def _indexer(labels: list[str], handling: str) -> Callable[[Any], float]:
    places = {label: float(i) for i, label in enumerate(labels)}
    unknown = float(len(labels)) if handling == "keep" else None

    def index(value: Any) -> float:
        label = as_text(value)
        found = places.get(label, unknown)
        if found is None:
            if handling == "skip":
                raise Refused(SKIPPED)
            raise Refused(f"Unseen label: {label}. To handle unseen labels, set handleInvalid to keep")
        return found

    return index


def reverse_string_indexer(source: Source) -> Step:
    source.columns(1)
    labels = source.attributes.words("labels")
    if source.attributes.has("input_shape") and not source.attributes.scalars_only("input_shape"):
        raise source.attributes.wrong("only single indices are supported, no vectors of them")

    def name(value: Any) -> str:
        index = as_double(value)
        if not 0 <= index < len(labels):
            raise Refused(f"key not found: {int(index) if math.isfinite(index) else index}")
        return labels[int(index)]

    return name


def one_hot_encoder(source: Source) -> Step:
    attributes = source.attributes
    drop_last = attributes.flag("drop_last")
    if attributes.has("size"):  # of MLeap before 0.11
        sizes = [attributes.integer("size", 1)]
        handling = _handling(source, "keep" if drop_last else "error")
    else:
        sizes = attributes.integers("category_sizes")
        handling = _handling(source)
    source.columns(len(sizes))
    keep = handling == "keep"
    return _listed([_encoder(size, size + (keep and not drop_last) - (drop_last and not keep), keep) for size in sizes])


def _encoder(categories: int, size: int, keep: bool) -> Callable[[Any], Vector]:
    def encode(value: Any) -> Vector:
        label = as_double(value)
        if not math.isfinite(label) or label != int(label):
            raise Refused(f"invalid label: {as_text(label)}, must be integer")
        index = int(label)
        if not 0 <= index < categories:
            if not keep:
                what = "Negative" if index < 0 else "Unseen"
                raise Refused(f"{what} value: {as_text(label)}. To handle it, set Param handleInvalid to keep")
            index = categories
        return Vector(size, [index], [1.0]) if index < size else Vector(size, [], [])

    return encode


def vector_assembler(source: Source) -> Step:
    if len(source.outputs) != 1 or not source.inputs:
        raise source.attributes.wrong("it must have columns in and one out")

    def assemble(*columns: Any) -> Vector:
        size = 0
        places: list[int] = []
        values: list[float] = []
        for column in columns:
            if type(column) is Vector:
                for index, value in column.items():
                    if value != 0.0:
                        places.append(size + index)
                        values.append(value)
                size += column.size
                continue
            value = as_double(column)
            if value != 0.0:
                places.append(size)
                values.append(value)
            size += 1
        made = Vector(size, places, values)
        return made if 1.5 * (len(places) + 1) < size else dense(made.array())

    return assemble


def _vectors(source: Source, size: int, function: Callable[[Vector], Vector]) -> Step:
    """A step from one vector of `size` elements to another."""
    source.columns(1)
    return lambda value: function(as_vector(value, size))


def standard_scaler(source: Source) -> Step:
    attributes = source.attributes
    mean: list[float] | None = attributes.numbers("mean") if attributes.has("mean") else None
    std: list[float] | None = attributes.numbers("std") if attributes.has("std") else None
    if (mean is None and std is None) or (mean is not None and std is not None and len(mean) != len(std)):
        raise attributes.wrong("it needs mean, std, or both of one length")
    factors = [1.0 / value if value != 0.0 else 0.0 for value in std] if std is not None else None

    def scale(vector: Vector) -> Vector:
        if mean is None:
            assert factors is not None
            return vector.mapped([value * factors[index] for index, value in vector.items()])
        if factors is None:
            return dense([value - shift for value, shift in zip(vector.array(), mean)])
        return dense(
            [(value - shift) * factor if factor else 0.0 for value, shift, factor in zip(vector.array(), mean, factors)]
        )

    return _vectors(source, len(mean if mean is not None else std or []), scale)


def min_max_scaler(source: Source) -> Step:
    attributes = source.attributes
    least, most = attributes.numbers("min"), attributes.numbers("max")
    low = attributes.number("minValue") if attributes.has("minValue") else 0.0
    high = attributes.number("maxValue") if attributes.has("maxValue") else 1.0
    if len(least) != len(most):
        raise attributes.wrong("min and max have different lengths")

    def scale(vector: Vector) -> Vector:
        out = []
        for value, start, end in zip(vector.array(), least, most):
            share = (value - start) / (end - start) if end != start else 0.5
            out.append(value if value != value else share * (high - low) + low)
        return dense(out)

    return _vectors(source, len(least), scale)


def max_abs_scaler(source: Source) -> Step:
    largest = [value if value != 0.0 else 1.0 for value in source.attributes.numbers("maxAbs")]

    def scale(vector: Vector) -> Vector:
        return vector.mapped([value / largest[index] for index, value in vector.items()])

    return _vectors(source, len(largest), scale)


def normalizer(source: Source) -> Step:
    power = source.attributes.number("p_norm")
    if not power >= 1.0:
        raise source.attributes.wrong(f"p_norm is {power}, not 1 or more")

    def norm(values: list[float]) -> float:
        sizes = [abs(value) for value in values]
        if power == 1.0:
            return sum(sizes)
        if power == 2.0:
            return math.sqrt(sum(value * value for value in sizes))
        if power == math.inf:
            return max(sizes, default=0.0)
        return float(sum(value**power for value in sizes) ** (1.0 / power))

    def normalize(vector: Vector) -> Vector:
        try:
            length = norm(vector.values)
        except OverflowError:
            length = math.inf
        return vector.mapped([value / length for value in vector.values]) if length != 0.0 else vector

    return _vectors(source, -1, normalize)


def binarizer(source: Source) -> Step:
    source.columns(1)
    threshold = source.attributes.number("threshold")

    def binarize(value: Any) -> Any:
        if type(value) is not Vector:
            return 1.0 if as_double(value) > threshold else 0.0
        if threshold < 0.0:  # then the zeros that are not stored count too
            return dense([1.0 if element > threshold else 0.0 for element in value.array()])
        return sparse(value.size, {index: 1.0 for index, element in value.items() if element > threshold})

    return binarize


def bucketizer(source: Source) -> Step:
    attributes = source.attributes
    source.columns(1)
    splits = attributes.numbers("splits")
    if len(splits) < 3:
        raise attributes.wrong("it has fewer than three splits")
    # MLeap's JSON has null for both infinities
    splits = [-math.inf if splits[0] != splits[0] else splits[0], *splits[1:-1], splits[-1]]
    splits[-1] = math.inf if splits[-1] != splits[-1] else splits[-1]
    if not all(a < b for a, b in zip(splits, splits[1:])):
        raise attributes.wrong("its splits do not ascend")
    handling = _handling(source)

    def bucket(value: Any) -> float:
        number = as_double(value)
        if number != number:
            if handling == "error":
                raise Refused("Bucketizer encountered NaN value. To handle or skip NaNs, try setting Bucketizer.handleInvalid.")
            if handling == "skip":
                raise Refused(SKIPPED)
            return float(len(splits) - 1)
        place = min(bisect_right(splits, number) - 1, len(splits) - 2)
        if number == 0.0 and math.copysign(1.0, number) < 0.0 and splits[place] == 0.0:
            place -= 1  # Java's order has -0.0 before 0.0
        if place < 0 or number > splits[-1]:
            bounds = f"[{as_text(splits[0])}, {as_text(splits[-1])}]"
            raise Refused(
                f"Feature value {as_text(number)} out of Bucketizer bounds {bounds}. "
                "Check your features, or loosen the lower/upper bound constraints."
            )
        return float(place)

    return bucket


def imputer(source: Source) -> Step:
    source.columns(1)
    attributes = source.attributes
    surrogate = attributes.number("surrogate_value")
    missing = attributes.number("missing_value") if attributes.has("missing_value") else math.nan

    def impute(value: Any) -> float:
        number = as_double(value)
        return surrogate if number != number or number == missing else number

    return impute


def pca(source: Source) -> Step:
    rows = source.attributes.matrix("principal_components")

    def project(vector: Vector) -> Vector:
        out = [0.0] * len(rows[0])
        for index, value in vector.items():
            if value != 0.0:
                for column, weight in enumerate(rows[index]):
                    out[column] += value * weight
        return dense(out)

    return _vectors(source, len(rows), project)


def polynomial_expansion(source: Source) -> Step:
    attributes = source.attributes
    degree, size = attributes.integer("degree", 1, 1000), attributes.integer("input_size", 1)
    if min(degree, size) > 30 or math.comb(size + degree, degree) > MOST_OUTPUTS:
        raise attributes.wrong(f"degree {degree} of {size} elements gives more than {MOST_OUTPUTS} elements")

    def expand(vector: Vector) -> Vector:
        out: list[float] = []
        _expand(vector.array(), size - 1, degree, 1.0, out)
        return dense(out[1:])

    return _vectors(source, size, expand)


def _expand(values: list[float], last: int, degree: int, product: float, out: list[float]) -> None:
    """Append `product` times each monomial, up to `degree`, of the elements up to `last`; the powers of that are outermost."""
    if last < 0 or degree == 0:
        out.append(product)
        return
    for power in range(degree + 1):
        _expand(values, last - 1, degree - power, product, out)
        product *= values[last]


def vector_slicer(source: Source) -> Step:
    attributes = source.attributes
    places = attributes.integers("indices") if attributes.has("indices") else []
    places = places + (attributes.integers("named_indices") if attributes.has("named_indices") else [])
    size = attributes.integer("input_size", 1) if attributes.has("input_size") else -1
    if not places or min(places) < 0 or 0 <= size <= max(places):
        raise attributes.wrong("its indices lie outside of its input")

    def pick(vector: Vector) -> Vector:
        if max(places) >= vector.size:
            raise Refused(f"Index {max(places)} out of bounds for length {vector.size}")
        return dense([vector[place] for place in places])

    return _vectors(source, size, pick)


def elementwise_product(source: Source) -> Step:
    weights = source.attributes.numbers("scaling_vec")

    def multiply(vector: Vector) -> Vector:
        return vector.mapped([value * weights[index] for index, value in vector.items()])

    return _vectors(source, len(weights), multiply)


def interaction(source: Source) -> Step:
    attributes = source.attributes
    count = attributes.integer("num_inputs", 2, 1000)
    spec = [attributes.integers(f"num_features{i}") for i in range(count)]
    if len(source.inputs) != count or len(source.outputs) != 1 or not all(sizes and min(sizes) > 0 for sizes in spec):
        raise attributes.wrong("its numbers of features do not fit its columns")
    if math.prod(sum(sizes) for sizes in spec) > MOST_OUTPUTS:
        raise attributes.wrong(f"it makes more than {MOST_OUTPUTS} elements")

    def interact(*columns: Any) -> Vector:
        size, elements = 1, {0: 1.0}
        for sizes, column in zip(reversed(spec), reversed(columns)):
            outer = _encoded(column, sizes)
            elements = {j + i * size: b * a for i, a in outer.items() for j, b in elements.items()}
            size *= sum(sizes)
        return sparse(size, elements)

    return interact


def _encoded(column: Any, sizes: list[int]) -> dict[int, float]:
    """The nonzero elements of one column of an interaction, its nominal elements one-hot."""
    vector = column if type(column) is Vector else dense([as_double(column)])
    if vector.size != len(sizes):
        raise Refused(f"Vector column size was {vector.size}, expected {len(sizes)}")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    out = {}
    for index, value in enumerate(vector.array()):  # a zero that is not stored is a category as well
        categories = sizes[index]
        if categories == 1:
            if value != 0.0:
                out[starts[index]] = value
        elif not 0 <= value < categories or value != int(value):
            raise Refused(f"Values from column must be indices, but got {as_text(value)}.")
        else:
            out[starts[index] + int(value)] = 1.0
    return out


OPS: dict[str, Callable[[Source], Step]] = {
    "binarizer": binarizer,
    "bucketizer": bucketizer,
    "elementwise_product": elementwise_product,
    "imputer": imputer,
    "interaction": interaction,
    "max_abs_scaler": max_abs_scaler,
    "min_max_scaler": min_max_scaler,
    "normalizer": normalizer,
    "one_hot_encoder": one_hot_encoder,
    "pca": pca,
    "polynomial_expansion": polynomial_expansion,
    "reverse_string_indexer": reverse_string_indexer,
    "sklearn_binarizer": binarizer,
    "standard_scaler": standard_scaler,
    "string_indexer": string_indexer,
    "vector_assembler": vector_assembler,
    "vector_slicer": vector_slicer,
}
