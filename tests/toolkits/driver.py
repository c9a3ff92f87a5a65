"""`python driver.py toolkit|host KIND < scenarios.json`: archives and requests through AWS's toolkit, or through our host.

Runs in an environment of its own; PYTHONPATH names the toolkit's packages, or our host's. Each scenario gets a process of
its own, forked after the imports. Standard input: a list of {"files", "environment", "requests": [{"headers", "body"}]},
contents in base64; standard output: a list of {"load": what stopped it from loading or null,
"answers": [{"status", "headers", "body"}]}.

AWS's model server (multi-model-server) has two halves. Its Python half is the real one here: the loader, `Service.predict`, the
encoding of the answer. What its front (Java) makes of that is `front`: headers as they are, errors as an ErrorResponse in JSON.
"""

import base64
import collections.abc
import importlib
import importlib.util
import io
import json
import logging
import os
import struct
import sys
import tempfile
import traceback

HANDLERS = {
    "common": "service.py:handle",
    "service": "sagemaker_inference.default_handler_service",
    "pytorch": "sagemaker_pytorch_serving_container.handler_service",
    "huggingface": "sagemaker_huggingface_inference_toolkit.handler_service",
}
FLAVOURS = {"common": "sklearn", "service": "sklearn"}


def main(side, kind):
    given = json.load(sys.stdin)
    run = (toolkit_flask if kind in ("sklearn", "xgboost") else toolkit_mms) if side == "toolkit" else host
    preload(side, kind)
    out = os.dup(1)
    os.dup2(2, 1)  # what models print is no result
    results = [forked(lambda scenario=scenario: in_place(run, kind, scenario)) for scenario in given]
    with os.fdopen(out, "w") as stream:
        json.dump(results, stream)


def preload(side, kind):
    """What every scenario imports, once."""
    modules = ["numpy"]
    if side == "host":
        modules += ["slipway_host.flavours", "slipway_host.frames"]
        modules += ["sagemaker_inference.transformer"] if importlib.util.find_spec("sagemaker_inference") else []
    elif kind in ("sklearn", "xgboost"):
        modules += ["sagemaker_containers._worker", "sagemaker_containers._transformer"]
    else:
        modules += ["mms.service", "mms.model_loader", "sagemaker_inference.transformer"]
    modules += {"pytorch": ["torch"], "huggingface": ["transformers.pipelines"], "xgboost": ["xgboost"]}.get(kind, [])
    logging.disable(logging.CRITICAL)
    if "sagemaker_containers._worker" in modules:  # it is of 2020: names that have moved, and a client that nothing here calls
        collections.Mapping = collections.abc.Mapping
        sys.modules["boto3"] = type(sys)("boto3")
    for name in modules:
        importlib.import_module(name)


def forked(work):
    """The JSON value that `work` gives in a child."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receive)
            with os.fdopen(send, "w") as stream:
                json.dump(work(), stream)
        except BaseException:  # noqa: BLE001  told, and the child ends
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return json.loads(text)


def in_place(run, kind, scenario):
    with tempfile.TemporaryDirectory() as base:
        model = os.path.join(base, "model")
        os.makedirs(os.path.join(model, "code"))
        for name, content in scenario["files"].items():
            path = os.path.join(model, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(base64.b64decode(content))
        os.environ.update(scenario["environment"])
        os.chdir(model)
        try:
            ask = run(kind, model)
        except BaseException as error:  # noqa: BLE001  user code
            traceback.print_exc()
            return {"load": f"{type(error).__name__}: {error}", "answers": []}
        answers = []
        for request in scenario["requests"]:
            status, headers, body = ask([tuple(pair) for pair in request["headers"]], base64.b64decode(request["body"]))
            encoded = base64.b64encode(bytes(body)).decode()
            answers.append({"status": status, "headers": headers, "body": encoded})
        return {"load": None, "answers": answers}


# -- our host -------------------------------------------------------------------------------------------------------------


def host(kind, model):
    flavours = importlib.import_module("slipway_host.flavours")
    frames = importlib.import_module("slipway_host.frames")
    contract = importlib.import_module("slipway_host.contract")
    sys.path.append(os.path.join(os.path.dirname(frames.__file__), "shims"))
    if kind in FLAVOURS:
        os.environ["SAGEMAKER_HANDLER"] = HANDLERS[kind]
    service = flavours.load(FLAVOURS.get(kind, kind), contract.Place(model, None, os.environ))

    def ask(headers, body):
        call = service.prepare([(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers])
        status, head, content = service.invoke(call, body)
        pairs = {name.decode().lower(): value.decode("latin-1") for name, value in frames.unpack_head(head)}
        return status, pairs, content if isinstance(content, bytes) else b"".join(content)

    return ask


# -- multi-model-server -------------------------------------------------------------------------------------------------


def toolkit_mms(kind, model):
    sys.path.insert(0, os.path.join(model, "code"))
    loader = importlib.import_module("mms.model_loader").MmsModelLoader()
    service = loader.load("model", model, HANDLERS[kind], None, 1)

    def ask(headers, body):
        types = [value for name, value in headers if name.lower() == "content-type"]
        parameter = {"name": "body", "contentType": types[0] if types else "", "value": bytearray(body)}
        told = [{"name": name.encode(), "value": value.encode("latin-1")} for name, value in headers]
        return front(service.predict([{"requestId": b"1", "parameters": [parameter], "headers": told}]))

    return ask


def front(message):
    """The answer that Java makes of a worker's message."""
    stream = io.BytesIO(message)

    def number():
        return struct.unpack("!i", stream.read(4))[0]

    def text():
        return stream.read(number())

    code, told = number(), text().decode()
    if code != 200:
        error = {"code": code, "type": "InternalServerException", "message": told}
        return code, {"content-type": "application/json"}, json.dumps(error, indent=2).encode() + b"\n"
    text()
    content_type = text().decode()
    status = number()
    text()
    headers = {"content-type": content_type} if content_type else {}
    for _ in range(number()):
        name = text().decode().lower()
        headers[name] = text().decode()
    return status, headers, text()


# -- sagemaker_containers, under Flask -----------------------------------------------------------------------------------


def toolkit_flask(kind, model):
    """Script mode of the scikit-learn and XGBoost containers: their default functions, in our words, over the real toolkit."""
    numpy = importlib.import_module("numpy")
    worker = importlib.import_module("sagemaker_containers._worker")
    environment = importlib.import_module("sagemaker_containers._env")
    transformer = importlib.import_module("sagemaker_containers._transformer")
    encoders = importlib.import_module("sagemaker_containers._encoders")
    public = sys.modules["sagemaker_containers.beta.framework"] = type(sys)("sagemaker_containers.beta.framework")
    public.worker, public.encoders, public.transformer = worker, encoders, transformer  # its own __init__ wants gunicorn
    worker.env = environment.ServingEnv()
    environment.model_dir = model
    sys.path.insert(0, os.path.join(model, "code"))
    script = importlib.import_module("inference")

    def decode(data, content_type):
        array = encoders.decode(data, content_type)
        return array.astype(numpy.float32) if content_type in ("application/json", "text/csv") else array

    def encode(prediction, accept):
        return worker.Response(encoders.encode(prediction, accept), mimetype=accept)

    def predict(data, loaded):
        return loaded.predict(data, validate_features=False) if kind == "xgboost" else loaded.predict(data)

    functions = {name: getattr(script, name, None) for name in ("input_fn", "predict_fn", "output_fn", "transform_fn")}
    if functions["transform_fn"] and len([each for each in functions.values() if each]) > 1:
        raise ValueError("Cannot use transform_fn implementation with input_fn, predict_fn, and/or output_fn")
    if not functions["transform_fn"]:
        functions["input_fn"] = functions["input_fn"] or (xgboost_matrix if kind == "xgboost" else decode)
        functions["predict_fn"] = functions["predict_fn"] or predict
        functions["output_fn"] = functions["output_fn"] or encode
    made = transformer.Transformer(model_fn=getattr(script, "model_fn", transformer.default_model_fn), **functions)
    made.initialize()
    client = worker.Worker(transform_fn=made.transform, module_name="inference").test_client()

    def ask(headers, body):
        sent = client.post("/invocations", data=body, headers=headers)
        return sent.status_code, {name.lower(): value for name, value in sent.headers}, sent.data

    return ask


def xgboost_matrix(data, content_type):
    """The XGBoost container's default input_fn for csv and libsvm, in our words."""
    csv, numpy, xgboost = (importlib.import_module(name) for name in ("csv", "numpy", "xgboost"))
    errors = importlib.import_module("sagemaker_containers._errors")
    kind = content_type.partition(";")[0].strip()
    text = data.decode() if isinstance(data, bytes) else data
    if kind == "text/csv":
        found = csv.Sniffer().sniff(text.split("\n")[0][:512]).delimiter
        cells = [line.split("," if found.isalnum() else found) for line in text.split("\n")]
        return xgboost.DMatrix(numpy.array([["nan" if cell == "" else cell for cell in row] for row in cells]).astype(float))
    if kind in ("text/libsvm", "text/x-libsvm"):
        rows = [dict(pair.split(":") for pair in line.split() if ":" in pair) for line in text.strip().split("\n")]
        named = [int(index) for row in rows for index in row]
        first = 1 if min(named) >= 1 else 0
        table = numpy.zeros((len(rows), max(named) - first + 1))
        for position, row in enumerate(rows):
            for index, value in row.items():
                table[position, int(index) - first] = float(value)
        return xgboost.DMatrix(table)
    raise errors.UnsupportedFormatError(kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
