"""KServe's model server: `KIND=echo|sklearn MODEL=path python kserve_app.py --http_port P …`."""

import os

import kserve


class Model(kserve.Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True
        self.model = None
        if os.environ["KIND"] == "sklearn":
            import joblib  # noqa: PLC0415

            self.model = joblib.load(os.environ["MODEL"])

    async def predict(self, payload, headers=None, response_headers=None):
        if self.model is None:
            return payload
        return {"predictions": self.model.predict(payload["instances"]).tolist()}


if __name__ == "__main__":
    kserve.model_server.parser.parse_args()
    kserve.ModelServer(workers=1, enable_grpc=False).start([Model("m")])
