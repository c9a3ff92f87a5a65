"""Sentence embeddings: the mean of a transformer's token states, normalised, as sentence-transformers makes them."""

import torch
from transformers import AutoModel, AutoTokenizer


def model_fn(model_dir):
    return AutoTokenizer.from_pretrained(model_dir), AutoModel.from_pretrained(model_dir).eval()


def predict_fn(data, loaded):
    tokenizer, model = loaded
    batch = tokenizer(data["inputs"], padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = (states * mask).sum(1) / mask.sum(1)
    return {"embeddings": torch.nn.functional.normalize(pooled).tolist()}
