"""A spaCy pipeline behind /ping and /invocations: a text in, its entities out."""

import os

import flask
import spacy

app = flask.Flask(__name__)
nlp = spacy.load(os.path.join("/opt/ml/model", "pipeline"))


@app.get("/ping")
def ping():
    return "", 200


@app.post("/invocations")
def invocations():
    if flask.request.mimetype != "text/plain":
        return flask.Response("this model reads text/plain", status=415)
    document = nlp(flask.request.get_data(as_text=True))
    return {"entities": [{"text": entity.text, "label": entity.label_} for entity in document.ents]}
