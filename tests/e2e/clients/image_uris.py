"""Every URI that `sagemaker.image_uris.retrieve` makes for images that serve models, and what was asked for.

Prints two sorted tables, a line of `-` between them. Images: repository:tag, framework, version, base (Hugging Face's),
device, python, scopes; `-` where nothing was asked. Registries: the host of every region's account. Each combination of
framework, scope, version (also its short form), processor and Python is asked for in every region of the SDK's data; on
standard error the number of URIs.
"""

import functools
import json
import logging
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import sagemaker  # noqa: E402
from sagemaker import image_uris, utils  # noqa: E402

# Each call of the SDK reads its data anew, which takes longer than all the rest.
image_uris.config_for_framework = functools.lru_cache(image_uris.config_for_framework)
utils._botocore_resolver = functools.lru_cache(utils._botocore_resolver)

CONFIG = Path(sagemaker.__file__).parent / "image_uri_config"
FRAMEWORKS = (  # noqa: SIM905  a list of words
    "sklearn xgboost pytorch huggingface tensorflow mxnet sparkml-serving sagemaker-tritonserver "
    "linear-learner knn kmeans pca randomcutforest blazingtext ntm lda factorization-machines image-classification "
    "object-detection semantic-segmentation seq2seq forecasting-deepar ipinsights object2vec "
    "autogluon chainer stabilityai djl-lmi djl-deepspeed djl-fastertransformer djl-tensorrtllm djl-neuronx "
    "huggingface-llm huggingface-tei huggingface-tei-cpu "
    "neo-pytorch neo-tensorflow neo-mxnet inferentia-pytorch inferentia-tensorflow inferentia-mxnet "
    "xgboost-neo image-classification-neo"
).split()
NAMES = {
    "sparkml-serving": "sparkml", "sagemaker-tritonserver": "triton", "stabilityai": "stabilityai-pytorch",
    "djl-lmi": "djl", "djl-deepspeed": "djl", "djl-fastertransformer": "djl", "djl-tensorrtllm": "djl", "djl-neuronx": "djl",
    "huggingface-llm": "tgi", "huggingface-tei": "tei", "huggingface-tei-cpu": "tei",
}  # fmt: skip
INSTANCES = {"cpu": "ml.c5.xlarge", "gpu": "ml.g4dn.xlarge", "inf": "ml.inf1.xlarge", "neuron": "ml.inf1.xlarge"}
INSTANCES |= {"neuronx": "ml.inf2.xlarge", "c5": "ml.c5.xlarge", "p3": "ml.p3.2xlarge", "": "ml.c5.xlarge"}
GRAVITON = "ml.c6g.xlarge"


def configurations(framework):
    """(scope, its configuration), as the SDK reads them; graviton and accelerators are scopes of their own."""
    config = json.loads((CONFIG / f"{framework}.json").read_text())
    if "versions" in config:
        for scope in config.get("scope", ["inference"]):
            yield scope, config
    for scope in ("inference", "training", "eia", "inference_graviton"):
        if scope in config:
            yield scope, config[scope]


def versions(config):
    yield from ((version, details) for version, details in config["versions"].items())
    for alias, version in config.get("version_aliases", {}).items():
        yield alias, config["versions"][version]


def bases(framework, details):
    """(base_framework_version, details) for Hugging Face, which is built on another framework; else one without."""
    if not framework.startswith("huggingface") or "repository" in details:
        return [(None, details)]
    found = [(base, inner) for base, inner in details.items() if base != "version_aliases"]
    return found + [(alias, details[base]) for alias, base in details.get("version_aliases", {}).items()]


def main():
    images, registries, count = {}, set(), 0
    for framework in FRAMEWORKS:
        for scope, config in configurations(framework):
            for version, outer in versions(config):
                for base, details in bases(framework, outer):
                    nested = [name for name in details if name.startswith("py") and isinstance(details[name], dict)]
                    for python in details.get("py_versions") or nested or [None]:
                        inner = details.get(python) or details
                        for device in config.get("processors") or details.get("processors") or [""]:
                            arguments = {"version": version, "py_version": python, "base_framework_version": base}
                            for uri in retrieve(framework, scope, device, inner["registries"], arguments):
                                count += 1
                                registry, _, name = uri.partition("/")
                                registries.add(registry)
                                asked = images.setdefault(name, {**described(framework, device, arguments), "scopes": []})
                                if scope not in asked["scopes"]:
                                    asked["scopes"].append(scope)
    for name, asked in sorted(images.items()):
        print(
            name,
            *(asked[key] or "-" for key in ("framework", "version", "base", "device", "python")),
            ",".join(asked["scopes"]),
        )
    print("-", *sorted(registries), sep="\n")
    sys.stderr.write(f"{count}\n")


def retrieve(framework, scope, device, regions, arguments):
    """Its URI in each region."""
    graviton = scope == "inference_graviton"
    extra = {"accelerator_type": "ml.eia2.medium"} if scope == "eia" else {}
    for region in regions:
        yield image_uris.retrieve(
            framework,
            region,
            image_scope="inference" if graviton or scope == "eia" else scope,
            instance_type=GRAVITON if graviton else INSTANCES[device],
            **arguments,
            **extra,
        )


def described(framework, device, arguments):
    base = arguments["base_framework_version"]
    return {
        "framework": NAMES.get(framework, framework),
        "version": arguments["version"],
        "base": base,
        "device": device,
        "python": arguments["py_version"],
    }


main()
