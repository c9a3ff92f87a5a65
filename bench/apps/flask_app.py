"""SageMaker's classic container: Flask with /ping and /invocations, under gunicorn and nginx."""

import os

import flask

app = flask.Flask("byoc")
model = None
if os.environ["KIND"] == "sklearn":
    import joblib

    model = joblib.load(os.environ["MODEL"])


@app.route("/ping")
def ping():
    return "\n"


@app.route("/invocations", methods=["POST"])
def invocations():
    if model is None:
        return flask.Response(flask.request.get_data(), mimetype="application/json")
    return flask.jsonify(model.predict(flask.request.get_json()).tolist())
