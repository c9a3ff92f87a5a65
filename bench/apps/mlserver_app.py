"""MLServer: a custom model; `KIND=echo|sklearn MODEL=path` in the environment."""

import os

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse, ResponseOutput


class Model(MLModel):
    async def load(self):
        self.model = None
        if os.environ["KIND"] == "sklearn":
            import joblib  # noqa: PLC0415

            self.model = joblib.load(os.environ["MODEL"])
        return True

    async def predict(self, payload):
        given = payload.inputs[0]
        if self.model is None:
            output = ResponseOutput(name="y", shape=given.shape, datatype=given.datatype, data=given.data)
        else:
            output = NumpyCodec.encode_output("y", self.model.predict(NumpyCodec.decode_input(given)))
        return InferenceResponse(model_name=self.name, outputs=[output])
