"""AWS's own toolkit for MXNet, asked: `ask_mxnet_toolkit.py MODEL_DIR < requests > answers`, in an environment that has it.

Requests: a JSON list of {"body": base64, "headers": {…}}. Answers: one of [status, content type, base64 of the body] each; or
one object {"refused": …} when the model could not be loaded. multi-model-server's part (a context, its status) is played here.
"""

import base64
import json
import os
import sys

model_dir = sys.argv[1]
os.environ["SAGEMAKER_BASE_DIR"] = os.path.dirname(model_dir)
sys.path.insert(0, os.path.join(model_dir, "code"))
told, sys.stdout = sys.stdout, sys.stderr

from sagemaker_mxnet_serving_container.handler_service import HandlerService  # noqa: E402


class Context:
    """What multi-model-server gives a handler, as far as the toolkit uses it."""

    def __init__(self, headers):
        self.system_properties = {"model_dir": model_dir, "gpu_id": None}
        self.request_processor = [self]
        self.headers = headers
        self.status = 200
        self.content_type = ""

    def get_request_properties(self):
        return self.headers

    def get_request_header(self, _index, key):
        return self.headers.get(key)

    def set_response_content_type(self, _index, value):
        self.content_type = value

    def set_response_status(self, code=200, phrase="", index=0):
        self.status = code


service = HandlerService()
try:
    service.initialize(Context({}))
except Exception as error:  # noqa: BLE001  whatever it refuses with is told
    json.dump({"refused": str(error)}, told)
    sys.exit()
answers = []
for request in json.load(sys.stdin):
    context = service._service._context = Context(request["headers"])
    (body,) = service.handle([{"body": bytearray(base64.b64decode(request["body"]))}], context)
    data = body.encode() if isinstance(body, str) else bytes(body)
    answers.append([context.status, context.content_type, base64.b64encode(data).decode()])
json.dump(answers, told)
