"""Four small graphs whose answers a person can compute. Needs the package `onnx`; run it in this folder.

All take `x` [1, 3, 2] (three rows of two signals), but the forecaster, which takes [1, 2, 2]:
score.onnx: the sum of all squares, and per signal its part; autoencoder.onnx: half of the input; forecaster.onnx: the last row it
sees; logarithm.onnx: the logarithm of the sum, so NaN below zero.
"""

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

F = TensorProto.FLOAT


def model(name, rows, nodes, outputs, weights=()):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", F, [1, rows, 2])],
        [helper.make_tensor_value_info(output, F, shape) for output, shape in outputs],
        [numpy_helper.from_array(value, key) for key, value in weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made)
    save(made, f"{name}.onnx")


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


def integers(*values):
    return np.array(values, np.int64)


squares = [
    node("Mul", ["x", "x"], "xx"),
    node("ReduceSum", ["xx", "rows"], "parts", keepdims=0),
    node("ReduceSum", ["parts", "signals"], "score", keepdims=1),
]
model("score", 3, squares, [("score", [1, 1]), ("parts", [1, 2])], [("rows", integers(1)), ("signals", integers(1))])
model("autoencoder", 3, [node("Mul", ["x", "half"], "y")], [("y", [1, 3, 2])], [("half", np.array(0.5, np.float32))])
last = [node("Slice", ["x", "from", "to", "axis"], "row"), node("Squeeze", ["row", "axis"], "next")]
model("forecaster", 2, last, [("next", [1, 2])], [("from", integers(1)), ("to", integers(2)), ("axis", integers(1))])
logarithm = [node("ReduceSum", ["x", "all"], "sum", keepdims=0), node("Log", ["sum"], "score")]
model("logarithm", 3, logarithm, [("score", [1])], [("all", integers(1, 2))])
