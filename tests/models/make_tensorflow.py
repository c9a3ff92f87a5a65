"""`python make_tensorflow.py FOLDER`: `half/1` and `half/2` (x/2 and x/2 + 1), and `words/1` (two inputs, two outputs)."""

import sys

import tensorflow as tf

folder = sys.argv[1]


class Half(tf.Module):
    def __init__(self, more):
        super().__init__()
        self.more = tf.Variable(more)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x / 2.0 + self.more}


class Words(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word"), tf.TensorSpec([None], tf.int32, name="n")])
    def __call__(self, word, n):
        return {"upper": tf.strings.upper(word), "next": n + 1}


for version, more in (("1", 0.0), ("2", 1.0)):
    module = Half(more)
    tf.saved_model.save(module, f"{folder}/half/{version}", signatures=module.__call__)
module = Words()
tf.saved_model.save(module, f"{folder}/words/1", signatures=module.__call__)
