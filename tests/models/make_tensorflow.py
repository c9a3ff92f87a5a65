"""`python make_tensorflow.py FOLDER`: `half/1`, `half/2` (trained to x/2 and x/2 + 1), `words/1` (two inputs and outputs)."""

import sys

import tensorflow as tf

folder = sys.argv[1]


class Half(tf.Module):
    def __init__(self, more):
        super().__init__()
        self.scale = tf.Variable(1.0)
        self.more = tf.Variable(0.5)
        x = tf.random.stateless_uniform([64, 2], (1, 2))
        for _ in range(600):
            with tf.GradientTape() as tape:
                error = tf.reduce_mean((x * self.scale + self.more - (x / 2.0 + more)) ** 2)
            for variable, gradient in zip(self.variables, tape.gradient(error, self.variables), strict=True):
                variable.assign_sub(0.5 * gradient)
        for variable in self.variables:  # to three digits, so that tests can say what is answered
            variable.assign(tf.round(variable * 1000) / 1000)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x * self.scale + self.more}


class Words(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word"), tf.TensorSpec([None], tf.int32, name="n")])
    def __call__(self, word, n):
        return {"upper": tf.strings.upper(word), "next": n + 1}


for version, more in (("1", 0.0), ("2", 1.0)):
    module = Half(more)
    tf.saved_model.save(module, f"{folder}/half/{version}", signatures=module.__call__)
module = Words()
tf.saved_model.save(module, f"{folder}/words/1", signatures=module.__call__)
