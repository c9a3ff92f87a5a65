"""LitServe: `KIND=echo|sklearn MODEL=path python litserve_app.py PORT`."""

import os
import sys

import litserve as ls


class Api(ls.LitAPI):
    def setup(self, device):
        self.model = None
        if os.environ["KIND"] == "sklearn":
            import joblib  # noqa: PLC0415

            self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request):
        return request

    def predict(self, x):
        return x if self.model is None else self.model.predict(x["instances"]).tolist()

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    server = ls.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, generate_client_file=False)
