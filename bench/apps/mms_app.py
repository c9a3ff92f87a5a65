"""multi-model-server: one handler; `KIND=echo|sklearn MODEL=path` in the environment."""

import json
import os


class Service:
    def __init__(self):
        self.model = None
        self.started = False

    def start(self):
        self.started = True
        if os.environ["KIND"] == "sklearn":
            import joblib  # noqa: PLC0415

            self.model = joblib.load(os.environ["MODEL"])

    def handle(self, data, context):
        if not self.started:
            self.start()
        if data is None:
            return None
        bodies = [row.get("body", row.get("data")) for row in data]
        if self.model is None:
            return bodies
        rows = [json.loads(body) if isinstance(body, bytes | str | bytearray) else body for body in bodies]
        return [json.dumps(self.model.predict(row).tolist()) for row in rows]


service = Service()


def handle(data, context):
    return service.handle(data, context)
