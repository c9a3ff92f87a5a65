"""`python make_sparkml.py OUT.json SEED ROWS [FOLDER]`: MLeap bundles of fitted Spark stages, rows, what Spark makes of them.

The bundles are written from the stages' own parameters in the format of MLeap's Spark exporter (combust/mleap:
mleap-spark/src/main/scala/org/apache/spark/ml/bundle/ops, bundle-ml/.../json/JsonSupport.scala), which needs a jar that no
Python index has. Each case: {"name", "ops", "files", "input", "outputs", "rows", "expected"}; a row that Spark refuses
expects null. In FOLDER the pipeline of the case `served` is saved by Spark itself.
"""

import json
import math
import random
import string
import sys
import time

from pyspark.ml import Pipeline, clustering
from pyspark.ml import classification as c
from pyspark.ml import feature as f
from pyspark.ml import regression as r
from pyspark.ml.linalg import DenseVector, SparseVector, Vectors, VectorUDT
from pyspark.sql import SparkSession
from pyspark.sql import types as t

# ---- MLeap's JSON: what is zero, false or empty is left out, NaN is null


def number(value):
    return None if isinstance(value, float) and math.isnan(value) else value


def scalar(kind, value):
    return {kind: number(value)} if value else {}


def items(kind, values):
    values = [number(value) for value in values]
    return {"type": "list", kind: values} if values else {"type": "list"}


def tensor(values, *sizes):
    shape = {"dimensions": [{"size": size, "name": ""} for size in sizes or [len(values)]]}
    return {"double": [number(float(value)) for value in values], "shape": shape, "type": "tensor"}


def shapes(*sizes):
    made = []
    for size in sizes:
        one = {"base": "tensor" if size else "scalar", "isNullable": False}
        if size:
            one["tensorShape"] = {"dimensions": [{"size": size, "name": ""}]}
        made.append(one)
    return {"type": "list", "data_shape": made}


def tree_lines(node, impurities):
    if node.getClass().getSimpleName() == "LeafNode":
        values = list(node.impurityStats().stats()) if impurities else [node.prediction()]
        return [json.dumps({"type": "leaf", "values": values})]
    split = node.split()
    made = {"featureIndex": split.featureIndex()}
    if split.getClass().getSimpleName() == "ContinuousSplit":
        made |= {"type": "continuous", "threshold": split.threshold()}
    else:
        left, right = list(split.leftCategories()), list(split.rightCategories())
        is_left = len(left) < len(right)
        made |= {
            "type": "categorical", "isLeft": is_left, "categories": left if is_left else right,
            "numCategories": split.numCategories(),
        }  # fmt: skip
    line = json.dumps({"type": "internal", "split": made})
    return [line, *tree_lines(node.leftChild(), impurities), *tree_lines(node.rightChild(), impurities)]


# ---- a stage: op, attributes, ports in, ports out, further files


def ports(name, columns):
    return [{"name": columns[0], "port": name}] if len(columns) == 1 else [
        {"name": column, "port": f"{name}{i}"} for i, column in enumerate(columns)
    ]  # fmt: skip


def columns(stage, single, several):
    return stage.getOrDefault(several) if stage.isSet(several) else [stage.getOrDefault(single)]


def classifier_ports(stage):
    outs = ("raw_prediction", stage.getRawPredictionCol()), ("probability", stage.getProbabilityCol())
    return [{"name": name, "port": port} for port, name in (*outs, ("prediction", stage.getPredictionCol())) if name]


def thresholds(stage):
    return {"thresholds": items("double", stage.getThresholds())} if stage.isSet("thresholds") else {}


def forest(stage, impurities):
    op = "decision_tree_classifier" if impurities else "decision_tree_regression"
    files, names = {}, []
    for i, tree in enumerate(stage.trees):
        attributes = {"num_features": scalar("long", stage.numFeatures)}
        if impurities:
            attributes["num_classes"] = scalar("long", stage.numClasses)
        files[f"tree{i}/model.json"] = json.dumps({"op": op, "attributes": attributes})
        files[f"tree{i}/tree.json"] = "\n".join(tree_lines(tree._java_obj.rootNode(), impurities)) + "\n"
        names.append(f"tree{i}")
    found = {
        "num_features": scalar("long", stage.numFeatures),
        "tree_weights": items("double", list(stage.treeWeights)),
        "trees": items("string", names),
    }
    return found, files


def described(stage, frame):
    """(op, attributes, inputs, outputs, files) of one stage."""
    kind = type(stage).__name__
    size = vector_size(frame, stage) if kind in ("Normalizer", "PolynomialExpansion", "VectorSlicer") else 0
    several = hasattr(stage, "inputCols") and stage.isSet("inputCols")
    if hasattr(stage, "featuresCol"):
        ins = [{"name": stage.getFeaturesCol(), "port": "features"}]
        outs = [{"name": stage.getPredictionCol(), "port": "prediction"}]
    elif several:
        ins = [{"name": name, "port": f"input{i}"} for i, name in enumerate(stage.getInputCols())]
        multi = stage.hasParam("outputCols") and stage.isSet("outputCols")
        names = stage.getOutputCols() if multi else [stage.getOutputCol()]
        outs = [{"name": name, "port": f"output{i}" if multi else "output"} for i, name in enumerate(names)]
    else:
        ins, outs = ports("input", [stage.getInputCol()]), ports("output", [stage.getOutputCol()])
    files = {}
    if kind == "StringIndexerModel":
        lists = stage.labelsArray if several else [stage.labels]
        a = {"labels_length": scalar("int", len(lists)), "handle_invalid": scalar("string", stage.getHandleInvalid())}
        a |= {f"labels_array_{i}": items("string", list(labels)) for i, labels in enumerate(lists)}
        op = "string_indexer"
    elif kind == "IndexToString":
        op, a = "reverse_string_indexer", {
            "labels": items("string", stage.getLabels()),
            "input_shape": {"data_shape": {"base": "scalar", "isNullable": False}},
        }  # fmt: skip
    elif kind == "OneHotEncoderModel":
        op, a = "one_hot_encoder", {
            "category_sizes": items("int", list(stage.categorySizes)),
            "handle_invalid": scalar("string", stage.getHandleInvalid()), "drop_last": scalar("boolean", stage.getDropLast()),
        }  # fmt: skip
    elif kind == "VectorAssembler":
        op, a = "vector_assembler", {"input_shapes": shapes(*(width(frame, name) for name in stage.getInputCols()))}
    elif kind == "StandardScalerModel":
        op, a = "standard_scaler", {}
        if stage.getWithMean():
            a["mean"] = tensor(stage.mean)
        if stage.getWithStd():
            a["std"] = tensor(stage.std)
    elif kind == "MinMaxScalerModel":
        op, a = "min_max_scaler", {
            "min": tensor(stage.originalMin), "max": tensor(stage.originalMax),
            "minValue": scalar("double", stage.getMin()), "maxValue": scalar("double", stage.getMax()),
        }  # fmt: skip
    elif kind == "MaxAbsScalerModel":
        op, a = "max_abs_scaler", {"maxAbs": tensor(stage.maxAbs)}
    elif kind == "Normalizer":
        op, a = "normalizer", {"p_norm": {"double": stage.getP()}, "input_size": scalar("int", size)}
    elif kind == "Binarizer":
        wide = width(frame, stage.getInputCol())
        op, a = "binarizer", {"threshold": scalar("double", stage.getThreshold()), "input_shapes": {
            "data_shape": shapes(wide)["data_shape"][0]}}  # fmt: skip
    elif kind == "Bucketizer":
        splits = [math.nan if math.isinf(value) else value for value in stage.getSplits()]
        op, a = "bucketizer", {
            "splits": items("double", splits), "handle_invalid": scalar("string", stage.getHandleInvalid())
        }  # fmt: skip
    elif kind == "ImputerModel":
        surrogate = stage.surrogateDF.first()[0]
        op, a = "imputer", {
            "surrogate_value": scalar("double", surrogate), "missing_value": scalar("double", stage.getMissingValue()),
            "strategy": scalar("string", stage.getStrategy()), "nullable_input": scalar("boolean", False),
        }  # fmt: skip
    elif kind == "PCAModel":
        op, a = "pca", {"principal_components": tensor(list(stage.pc.values), stage.pc.numRows, stage.pc.numCols)}
    elif kind == "PolynomialExpansion":
        op, a = "polynomial_expansion", {"degree": scalar("long", stage.getDegree()), "input_size": scalar("long", size)}
    elif kind == "VectorSlicer":
        op, a = "vector_slicer", {
            "indices": items("long", stage.getIndices()), "names": items("string", []), "named_indices": items("int", []),
            "input_size": scalar("int", size),
        }  # fmt: skip
    elif kind == "ElementwiseProduct":
        op, a = "elementwise_product", {"scaling_vec": tensor(stage.getScalingVec())}
    elif kind == "Interaction":
        spec = [feature_counts(frame, name) for name in stage.getInputCols()]
        op, a = "interaction", {"num_inputs": scalar("int", len(spec))}
        a["input_shapes"] = shapes(*(width(frame, name) for name in stage.getInputCols()))
        a |= {f"num_features{i}": items("int", counts) for i, counts in enumerate(spec)}
    elif kind == "Tokenizer":
        op, a = "tokenizer", {}
    elif kind == "RegexTokenizer":
        op, a = "regex_tokenizer", {
            "regex": scalar("string", stage.getPattern()), "match_gaps": scalar("boolean", stage.getGaps()),
            "token_min_length": scalar("int", stage.getMinTokenLength()),
            "lowercase_text": scalar("boolean", stage.getToLowercase()),
        }  # fmt: skip
    elif kind == "StopWordsRemover":
        op, a = "stopwords_remover", {
            "stop_words": items("string", stage.getStopWords()), "case_sensitive": scalar("boolean", stage.getCaseSensitive()),
        }  # fmt: skip
    elif kind == "NGram":
        op, a = "ngram", {"n": scalar("long", stage.getN())}
    elif kind == "CountVectorizerModel":
        op, a = "count_vectorizer", {
            "vocabulary": items("string", stage.vocabulary), "binary": scalar("boolean", stage.getBinary()),
            "min_tf": scalar("double", stage.getMinTF()),
        }  # fmt: skip
    elif kind == "HashingTF":
        op, a = "hashing_term_frequency", {
            "num_features": scalar("long", stage.getNumFeatures()), "binary": scalar("boolean", stage.getBinary()),
            "hashUnsafeBytesVersion": scalar("int", 2),
        }  # fmt: skip
    elif kind == "IDFModel":
        op, a = "idf", {"idf": tensor(stage.idf), "docFreq": items("long", list(stage.docFreq)),
                        "numDocs": scalar("long", stage.numDocs)}  # fmt: skip
    elif kind == "LinearRegressionModel":
        op, a = "linear_regression", {
            "coefficients": tensor(stage.coefficients), "intercept": scalar("double", stage.intercept)
        }  # fmt: skip
    elif kind == "LogisticRegressionModel":
        op, a, outs = "logistic_regression", {"num_classes": scalar("long", stage.numClasses)}, classifier_ports(stage)
        if stage.numClasses > 2:
            matrix = stage.coefficientMatrix.toArray()
            a["coefficient_matrix"] = tensor(matrix.flatten(order="F").tolist(), *matrix.shape)
            a["intercept_vector"] = tensor(stage.interceptVector)
            a |= thresholds(stage)
        else:
            a |= {
                "coefficients": tensor(stage.coefficients), "intercept": scalar("double", stage.intercept),
                "threshold": scalar("double", stage.getThreshold()),
            }  # fmt: skip
    elif kind in ("DecisionTreeClassificationModel", "DecisionTreeRegressionModel"):
        classes = kind == "DecisionTreeClassificationModel"
        op, a = "decision_tree_regression", {"num_features": scalar("long", stage.numFeatures)}
        if classes:
            op, outs = "decision_tree_classifier", classifier_ports(stage)
            a |= {"num_classes": scalar("long", stage.numClasses)} | thresholds(stage)
        files["tree.json"] = "\n".join(tree_lines(stage._java_obj.rootNode(), classes)) + "\n"
    elif kind == "RandomForestClassificationModel":
        op, outs = "random_forest_classifier", classifier_ports(stage)
        a, files = forest(stage, True)
        a |= {"num_classes": scalar("long", stage.numClasses)} | thresholds(stage)
    elif kind == "RandomForestRegressionModel":
        op, (a, files) = "random_forest_regression", forest(stage, False)
    elif kind == "GBTClassificationModel":
        op, outs = "gbt_classifier", classifier_ports(stage)
        a, files = forest(stage, False)
        a |= {"num_classes": scalar("long", 2)} | thresholds(stage)
    elif kind == "GBTRegressionModel":
        op, (a, files) = "gbt_regression", forest(stage, False)
    elif kind == "KMeansModel":
        centers = [tensor(center.tolist()) for center in stage.clusterCenters()]
        op, a = "k_means", {"cluster_centers": {"type": "list", "tensor": [
            {name: value for name, value in center.items() if name != "type"} for center in centers
        ]}, "num_features": scalar("long", len(stage.clusterCenters()[0]))}  # fmt: skip
    else:
        raise SystemExit(f"no MLeap form of {kind} here")
    return op, a, ins, outs, files


def width(frame, name):
    """Elements of a vector column, 0 of a single value."""
    if not isinstance(frame.schema[name].dataType, VectorUDT):
        return 0
    known = frame.schema[name].metadata.get("ml_attr", {}).get("num_attrs")
    return known or len(frame.select(name).first()[0])


def vector_size(frame, stage):
    return width(frame, stage.getInputCol())


def feature_counts(frame, name):
    meta = frame.schema[name].metadata.get("ml_attr", {})
    if width(frame, name) == 0:
        return [max(1, len(meta.get("vals", [0])))]
    counts = {}
    for kind, attributes in meta["attrs"].items():
        for one in attributes:
            counts[one["idx"]] = max(1, len(one.get("vals", [0]))) if kind == "nominal" else 1
    return [counts[i] for i in sorted(counts)]


def bundle(model, frame):
    """The files of a pipeline's bundle, and its ops."""
    files = {
        "bundle.json": json.dumps({
            "uid": "6f1c2d3e-0000-4000-8000-000000000000", "name": model.uid, "format": "json", "version": "0.20.0",
            "timestamp": "2024-01-01T00:00:00",
        })
    }  # fmt: skip
    names, ops = [], []
    for stage in model.stages:
        op, attributes, ins, outs, more = described(stage, frame)
        folder = f"root/{stage.uid}.node"
        files[f"{folder}/model.json"] = json.dumps({"op": op, "attributes": attributes})
        files[f"{folder}/node.json"] = json.dumps({"name": stage.uid, "shape": {"inputs": ins, "outputs": outs}})
        files |= {f"{folder}/{path}": text for path, text in more.items()}
        names.append(stage.uid)
        ops.append(op)
        frame = stage.transform(frame)
    files["root/model.json"] = json.dumps({"op": "pipeline", "attributes": {"nodes": items("string", names)}})
    files["root/node.json"] = json.dumps({"name": model.uid, "shape": {"inputs": [], "outputs": []}})
    return files, ops


# ---- rows


def chance_double(chance):
    return chance.choice([0.0, -1.5, 1.0, 2.0, 1e-6, 12345678.9, chance.uniform(-4, 4), chance.gauss(0, 1), -0.0])


def chance_vector(chance, size):
    return [chance_double(chance) if chance.random() < 0.7 else 0.0 for _ in range(size)]


WORDS = ("spark", "Spark", "the", "a", "is", "naïve", "ÉCOLE", "日本", "x", "ab", "abc", "abcde", "İstanbul", "ΣΑΣ", "0", "1,2")


def chance_text(chance):
    if chance.random() < 0.2:
        alphabet = string.ascii_letters + string.digits + " \t-_.,;é中😀"
        return "".join(chance.choice(alphabet) for _ in range(chance.randrange(12)))
    return chance.choice((" ", "  ", "\t", ",")).join(chance.choice(WORDS) for _ in range(chance.randrange(8)))


MAKERS = {
    "double": chance_double,
    "text": chance_text,
    "letter": lambda chance: chance.choice("abcd"),
    "odd": lambda chance: chance.choice("abcz"),
    "words": lambda chance: [chance.choice(WORDS) for _ in range(chance.randrange(7))],
    "index": lambda chance: float(chance.randrange(4)),
    "wild": lambda chance: float(chance.choice([0, 1, 2, 3, 4, -1])),
    "nan": lambda chance: chance.choice([math.nan, chance_double(chance)]),
    "v3": lambda chance: chance_vector(chance, 3),
    "v5": lambda chance: chance_vector(chance, 5),
}
ZEROS = {"text": "", "letter": "a", "odd": "a", "words": [], "v3": [0.0] * 3, "v5": [0.0] * 5}
"""A last row of each case: every number is 0."""
TYPES = {
    "double": ("double", "basic", t.DoubleType()), "text": ("string", "basic", t.StringType()),
    "words": ("string", "array", t.ArrayType(t.StringType())), "v": ("double", "vector", VectorUDT()),
}  # fmt: skip
KINDS = {"letter": "text", "odd": "text", "index": "double", "wild": "double", "nan": "double", "v3": "v", "v5": "v"}


def kind_of(maker):
    return TYPES[KINDS.get(maker, maker)]


class Cases:
    def __init__(self, spark, seed, rows):
        self.spark = spark
        self.chance = random.Random(seed)
        self.rows = rows
        self.made = []

    def frame(self, makers, rows):
        fields = [t.StructField(name, kind_of(maker)[2]) for name, maker in makers.items()]
        kinds = [kind_of(maker) for maker in makers.values()]
        wrapped = [
            [Vectors.dense(value) if kind[1] == "vector" else value for value, kind in zip(row, kinds, strict=True)]
            for row in rows
        ]
        return self.spark.createDataFrame(wrapped, t.StructType(fields))

    def chosen(self, makers, count):
        return [[MAKERS[maker](self.chance) for maker in makers.values()] for _ in range(count)]

    def add(self, name, makers, stages, *outputs, train=None):
        """`makers`: column → how its values are made. `train`: a frame to fit with."""
        begin = time.monotonic()
        frame = train if train is not None else self.frame(makers, self.chosen(makers, 40)).cache()
        model = Pipeline(stages=stages).fit(frame)
        files, ops = bundle(model, frame)
        rows = [*self.chosen(makers, self.rows), [ZEROS.get(maker, 0.0) for maker in makers.values()]]
        expected = self.expected(model, makers, rows, [name for name, _, _ in outputs])
        ins = [{"name": n, "type": kind_of(m)[0], "struct": kind_of(m)[1]} for n, m in makers.items()]
        outs = [{"name": n, "type": kind, "struct": struct} for n, kind, struct in outputs]
        self.made.append(
            {"name": name, "ops": ops, "files": files, "input": ins, "outputs": outs, "rows": rows, "expected": expected}
        )
        print(f"{time.monotonic() - begin:.1f} s: {name}", flush=True)

    def expected(self, model, makers, rows, names):
        """For each row the outputs; None for a row that Spark refuses or skips."""
        try:
            return self.transformed(model, makers, rows, names)
        except Exception:  # noqa: BLE001  some row is refused: which one?
            if len(rows) == 1:
                return [None]
            half = len(rows) // 2
            first, second = rows[:half], rows[half:]
            return self.expected(model, makers, first, names) + self.expected(model, makers, second, names)

    def transformed(self, model, makers, rows, names):
        numbered = self.frame({"number": "double"} | makers, [[float(i), *row] for i, row in enumerate(rows)])
        found = {row[0]: row[1:] for row in model.transform(numbered).select("number", *names).collect()}
        return [[plain(value) for value in found[i]] if i in found else None for i in range(len(rows))]


def plain(value):
    return [float(item) for item in value.toArray()] if isinstance(value, (DenseVector, SparseVector)) else value


D, V, S, A = ("double", "basic"), ("double", "vector"), ("string", "basic"), ("string", "array")


def out(name, kind):
    return (name, *kind)


def features(cases):
    letter, doubles = {"c": "letter"}, {"x": "double", "y": "double"}
    train = cases.frame(letter, [[x] for x in "aaabbcd"])
    for handling in ("error", "keep", "skip"):
        indexer = f.StringIndexer(inputCol="c", outputCol="i", handleInvalid=handling)
        cases.add(f"indexer-{handling}", {"c": "odd"}, [indexer], out("i", D), train=train)
    two = {"c": "letter", "d": "letter"}
    several = f.StringIndexer(inputCols=["c", "d"], outputCols=["i", "j"], handleInvalid="keep")
    hot = f.OneHotEncoder(inputCols=["i", "j"], outputCols=["p", "q"])
    cases.add("several", two, [several, hot], out("j", D), out("p", V), out("q", V))
    for number, (handling, drop) in enumerate([("error", True), ("error", False), ("keep", True), ("keep", False)]):
        one = f.OneHotEncoder(inputCol="i", outputCol="h", handleInvalid=handling, dropLast=drop)
        indices = cases.frame({"i": "index"}, [[float(i % 4)] for i in range(8)])
        cases.add(f"one-hot-{number}", {"i": "wild"}, [one], out("h", V), train=indices)
    cases.add("labels", {"i": "wild"}, [f.IndexToString(inputCol="i", outputCol="c", labels=list("xyz"))], out("c", S))
    assembler = f.VectorAssembler(inputCols=["x", "v", "y"], outputCol="o")
    cases.add("assembler", doubles | {"v": "v3"}, [assembler], out("o", V))
    for mean, std in ((True, True), (False, True), (True, False)):
        scaler = f.StandardScaler(inputCol="v", outputCol="o", withMean=mean, withStd=std)
        cases.add(f"standard-{mean}-{std}", {"v": "v5"}, [scaler], out("o", V))
    constant = cases.frame({"v": "v3"}, [[[2.0, float(i), 0.0]] for i in range(5)])
    both = f.StandardScaler(inputCol="v", outputCol="o", withMean=True)
    cases.add("standard-constant", {"v": "v3"}, [both], out("o", V), train=constant)
    cases.add("min-max", {"v": "v5"}, [f.MinMaxScaler(inputCol="v", outputCol="o", min=-1.0, max=3.0)], out("o", V))
    cases.add("min-max-constant", {"v": "v3"}, [f.MinMaxScaler(inputCol="v", outputCol="o")], out("o", V), train=constant)
    cases.add("max-abs", {"v": "v5"}, [f.MaxAbsScaler(inputCol="v", outputCol="o")], out("o", V))
    for power in (1.0, 2.0, 3.5):
        cases.add(f"norm-{power}", {"v": "v5"}, [f.Normalizer(inputCol="v", outputCol="o", p=power)], out("o", V))
    cases.add("binary", {"x": "double"}, [f.Binarizer(inputCol="x", outputCol="o", threshold=0.5)], out("o", D))
    for threshold in (0.0, -2.0):
        binarizer = f.Binarizer(inputCol="v", outputCol="o", threshold=threshold)
        cases.add(f"binary-vector{threshold}", {"v": "v5"}, [binarizer], out("o", V))
    infinite = [-math.inf, -1.0, 0.0, 2.0, math.inf]
    for handling, splits in (("keep", infinite), ("skip", infinite), ("error", infinite), ("keep", [-4.0, 0.0, 1.0, 2.0])):
        bucketizer = f.Bucketizer(inputCol="x", outputCol="o", splits=splits, handleInvalid=handling)
        plain_train = cases.frame({"x": "double"}, [[1.0]])
        cases.add(f"buckets-{handling}{len(splits)}", {"x": "nan"}, [bucketizer], out("o", D), train=plain_train)
    cases.add("imputer", {"x": "nan"}, [f.Imputer(inputCol="x", outputCol="o", strategy="median")], out("o", D))
    zero = f.Imputer(inputCol="x", outputCol="o", missingValue=1.0)
    cases.add("imputer-value", {"x": "double"}, [zero], out("o", D))
    cases.add("pca", {"v": "v5"}, [f.PCA(inputCol="v", outputCol="o", k=3)], out("o", V))
    for degree in (2, 3):
        expansion = f.PolynomialExpansion(inputCol="v", outputCol="o", degree=degree)
        cases.add(f"polynomial-{degree}", {"v": "v3"}, [expansion], out("o", V))
    cases.add("slicer", {"v": "v5"}, [f.VectorSlicer(inputCol="v", outputCol="o", indices=[4, 0, 2])], out("o", V))
    product = f.ElementwiseProduct(inputCol="v", outputCol="o", scalingVec=Vectors.dense(0.0, -1.0, 2.5))
    cases.add("product", {"v": "v3"}, [product], out("o", V))
    mixed = f.VectorAssembler(inputCols=["i", "y"], outputCol="m")
    index = f.StringIndexer(inputCol="c", outputCol="i", stringOrderType="alphabetAsc")
    crossed = f.Interaction(inputCols=["x", "m", "i"], outputCol="o")
    cases.add("interaction", doubles | letter, [index, mixed, crossed], out("o", V))


def text(cases):
    sentence, words = {"s": "text"}, {"w": "words"}
    cases.add("tokenizer", sentence, [f.Tokenizer(inputCol="s", outputCol="w")], out("w", A))
    for number, (pattern, gaps, least, lower) in enumerate([
        (r"\s+", True, 1, True), (r"\W", True, 0, False), (r"[a-z0-9]+", False, 2, True), (r"\s*", True, 1, True),
        (r"(?:ab)|[^\w,]|\d{1,2}", False, 1, False), (",", True, 3, True),
    ]):  # fmt: skip
        split = f.RegexTokenizer(
            inputCol="s", outputCol="w", pattern=pattern, gaps=gaps, minTokenLength=least, toLowercase=lower
        )
        cases.add(f"regex-{number}", sentence, [split], out("w", A))
    for sensitive in (True, False):
        remover = f.StopWordsRemover(inputCol="w", outputCol="o", caseSensitive=sensitive, stopWords=["the", "IS", "école"])
        cases.add(f"stop-{sensitive}", words, [remover], out("o", A))
    cases.add("ngram", words, [f.NGram(inputCol="w", outputCol="o", n=3)], out("o", A))
    for binary, least in ((False, 1.0), (True, 0.3), (False, 2.0)):
        model = f.CountVectorizer(inputCol="w", outputCol="o", binary=binary, minTF=least, vocabSize=6)
        cases.add(f"counts-{binary}-{least}", words, [model], out("o", V))
    for binary in (False, True):
        hashing = f.HashingTF(inputCol="w", outputCol="h", numFeatures=50, binary=binary)
        cases.add(f"hashing-{binary}", words, [hashing, f.IDF(inputCol="h", outputCol="o")], out("h", V), out("o", V))


def models(cases):
    chance = random.Random(7)

    rows = []
    for _ in range(120):
        letter, x, v = chance.choice("abcd"), chance.uniform(-2, 2), [chance.gauss(0, 1) for _ in range(3)]
        rows.append([letter, x, v, float(int(abs(x * 2 + v[0] + "abcd".index(letter))))])
    makers = {"c": "letter", "x": "double", "v": "v3"}
    number = cases.frame(makers | {"label": "double"}, rows).cache()
    two, three = ((number.withColumn("label", number.label % classes)).cache() for classes in (2, 3))
    before = Pipeline(stages=[
        f.StringIndexer(inputCol="c", outputCol="i", handleInvalid="keep"),
        f.VectorAssembler(inputCols=["i", "x", "v"], outputCol="features"),
    ]).fit(number).stages  # fmt: skip
    outs = out("rawPrediction", V), out("probability", V), out("prediction", D)
    cases.add("linear", makers, [*before, r.LinearRegression(maxIter=5)], outs[2], train=number)
    cases.add("logistic", makers, [*before, c.LogisticRegression(maxIter=5, threshold=0.4)], *outs, train=two)
    cases.add("multinomial", makers, [*before, c.LogisticRegression(maxIter=5)], *outs, train=three)
    shifted = c.LogisticRegression(maxIter=5, family="multinomial", thresholds=[0.1, 0.6, 0.3])
    cases.add("multinomial-thresholds", makers, [*before, shifted], *outs, train=three)
    quiet = c.LogisticRegression(maxIter=5, rawPredictionCol="", probabilityCol="")
    cases.add("logistic-quiet", makers, [*before, quiet], outs[2], train=two)
    cases.add("tree", makers, [*before, c.DecisionTreeClassifier(maxDepth=4)], *outs, train=three)
    cases.add("tree-thresholds", makers, [*before, c.DecisionTreeClassifier().setThresholds([0.9, 0.1])], *outs, train=two)
    cases.add("tree-regression", makers, [*before, r.DecisionTreeRegressor(maxDepth=4)], outs[2], train=number)
    cases.add("forest", makers, [*before, c.RandomForestClassifier(numTrees=5, maxDepth=4, seed=1)], *outs, train=three)
    cases.add("forest-regression", makers, [*before, r.RandomForestRegressor(numTrees=5, seed=1)], outs[2], train=number)
    cases.add("boosted", makers, [*before, c.GBTClassifier(maxIter=4, maxDepth=3, seed=1)], *outs, train=two)
    cases.add("boosted-regression", makers, [*before, r.GBTRegressor(maxIter=4, maxDepth=3, seed=1)], outs[2], train=number)
    means = clustering.KMeans(k=3, seed=1, maxIter=4)
    cases.add("k-means", makers, [*before, means], ("prediction", "int", "basic"), train=number)


def old_hashes(spark):
    """What Spark before 3 hashed words to: SQL's hash() still computes it."""
    alphabet = ("", "a", "ab", "abc", "abcd", "naïve", "日本語", "İstanbul", "spark ml")
    rows = spark.createDataFrame([(word,) for word in alphabet], ["w"]).selectExpr("w", "hash(w) AS h").collect()
    return {row["w"]: row["h"] for row in rows}


def served(cases, folder):
    """A pipeline as people deploy it."""
    makers = {"kind": "odd", "x": "double", "y": "double"}
    chance = random.Random(3)
    rows = [[chance.choice("abcd"), chance.uniform(-2, 2), chance.gauss(0, 1)] for _ in range(80)]
    train = cases.frame(makers | {"label": "double"}, [[*row, float(row[1] + row[2] > 0)] for row in rows])
    stages = [
        f.StringIndexer(inputCol="kind", outputCol="i", handleInvalid="keep"),
        f.OneHotEncoder(inputCols=["i"], outputCols=["h"]),
        f.VectorAssembler(inputCols=["h", "x", "y"], outputCol="features"),
        c.LogisticRegression(maxIter=5),
    ]
    cases.add("served", makers, stages, out("probability", V), out("prediction", D), out("features", V), train=train)
    if folder:
        Pipeline(stages=stages).fit(train).write().overwrite().save(folder)


def main(path, seed, rows, folder=""):
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    for name, value in {
        "spark.sql.shuffle.partitions": "1", "spark.default.parallelism": "1", "spark.driver.host": "127.0.0.1",
        "spark.ui.showConsoleProgress": "false", "spark.sql.codegen.wholeStage": "false",
        "spark.sql.warehouse.dir": "/tmp/spark-warehouse",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }.items():  # fmt: skip
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    cases = Cases(spark, seed, rows)
    features(cases)
    text(cases)
    models(cases)
    served(cases, folder)
    made = {"spark": spark.version, "cases": cases.made, "old_hashes": old_hashes(spark)}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(made, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
