"""Models of MXNet, trained here, as its users save them: a Module's checkpoint, a Gluon block; and what they answer.

Run by MXNet's own Python: make_mxnet.py FOLDER. `truth.json`: rows, and MXNet's own answers of both models to them.
"""

import json
import sys

import mxnet as mx
import numpy as np

folder = sys.argv[1]
mx.random.seed(1)
np.random.seed(1)
rows = np.random.uniform(-1, 1, (200, 4)).astype("float32")
labels = (rows[:, 0] + 2 * rows[:, 1] > rows[:, 2]).astype("float32")

net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=8, name="hidden")
net = mx.sym.FullyConnected(mx.sym.Activation(net, act_type="relu"), num_hidden=2, name="out")
module = mx.mod.Module(mx.sym.SoftmaxOutput(net, name="softmax"), context=mx.cpu())
batches = mx.io.NDArrayIter(rows, labels, batch_size=20, shuffle=True)
module.fit(batches, num_epoch=30, optimizer="adam", optimizer_params={"learning_rate": 0.02})
module.save_checkpoint(folder + "/model", 0)
with open(folder + "/model-shapes.json", "w") as file:
    json.dump([{"name": "data", "shape": [20, 4]}], file)

block = mx.gluon.nn.HybridSequential()
block.add(mx.gluon.nn.Dense(8, activation="relu"), mx.gluon.nn.Dense(1))
block.initialize(mx.init.Xavier())
block.hybridize()
trainer = mx.gluon.Trainer(block.collect_params(), "adam", {"learning_rate": 0.02})
loss = mx.gluon.loss.L2Loss()
targets = mx.nd.array(rows @ [1.0, -2.0, 0.5, 0.0])
for _ in range(100):
    with mx.autograd.record():
        value = loss(block(mx.nd.array(rows)), targets)
    value.backward()
    trainer.step(len(rows))
block.export(folder + "/block")

few = mx.nd.array(rows[:3])
answers = module.predict(mx.io.NDArrayIter(rows[:20], labels[:20], batch_size=20)).asnumpy()[:3]
assert (answers.argmax(axis=1) == labels[:3]).all(), answers
with open(folder + "/truth.json", "w") as file:
    json.dump({"rows": rows[:3].tolist(), "module": answers.tolist(), "block": block(few).asnumpy().tolist()}, file)
