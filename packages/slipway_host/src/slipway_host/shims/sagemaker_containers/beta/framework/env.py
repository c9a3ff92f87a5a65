"""What a script can ask of its surroundings."""

from __future__ import annotations

import os


class ServingEnv:
    """The settings of a serving container, from the process environment."""

    def __init__(self) -> None:
        program = os.environ.get("SAGEMAKER_PROGRAM", "inference.py")
        self.user_entry_point = program
        self.module_name = program[:-3] if program.endswith(".py") else program
        self.model_dir = os.environ.get("SM_MODEL_DIR", "/opt/ml/model")
        self.module_dir = os.environ.get("SAGEMAKER_SUBMIT_DIRECTORY", os.path.join(self.model_dir, "code"))
        self.default_accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/json")
        self.log_level = int(os.environ.get("SAGEMAKER_CONTAINER_LOG_LEVEL", "20"))
        self.model_server_timeout = int(os.environ.get("SAGEMAKER_MODEL_SERVER_TIMEOUT", "60"))
        self.model_server_workers = int(os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS", str(os.cpu_count() or 1)))
        self.region_name = os.environ.get("SAGEMAKER_REGION", os.environ.get("AWS_REGION", ""))
