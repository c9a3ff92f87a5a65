"""mosec: `KIND=echo|sklearn MODEL=path python mosec_app.py --port P`."""

import os

from mosec import Server, Worker


class Model(Worker):
    def __init__(self):
        self.model = None
        if os.environ["KIND"] == "sklearn":
            import joblib  # noqa: PLC0415

            self.model = joblib.load(os.environ["MODEL"])

    def deserialize(self, data):
        return data if self.model is None else super().deserialize(data)

    def serialize(self, data):
        return data if self.model is None else super().serialize(data)

    def forward(self, data):
        return data if self.model is None else self.model.predict(data).tolist()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Model, num=1)
    server.run()
