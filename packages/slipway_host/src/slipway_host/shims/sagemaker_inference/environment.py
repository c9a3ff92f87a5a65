"""What a script can ask of its surroundings."""

from __future__ import annotations

import os

model_dir = os.environ.get("SM_MODEL_DIR", "/opt/ml/model")
base_dir = os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")
code_dir = os.path.join(model_dir, "code")


class Environment:
    """The settings of a serving container, from the process environment."""

    def __init__(self) -> None:
        program = os.environ.get("SAGEMAKER_PROGRAM", "inference.py")
        self.module_name = program[:-3] if program.endswith(".py") else program
        self.default_accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/json")
        self.model_server_timeout = int(os.environ.get("SAGEMAKER_MODEL_SERVER_TIMEOUT", "60"))
        self.model_server_workers = os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS")
        self.inference_http_port = os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")
