"""ONNX files that a trial must survive. Needs the package `onnx`; run it in this folder.

Each takes `x` [1, 3, 2] and promises `score` [1, 1], as far as it keeps any promise.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

F = TensorProto.FLOAT


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


def model(name, nodes, weights=(), shape=(1, 3, 2), opset=17):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", F, list(shape))],
        [helper.make_tensor_value_info("score", F, [1, 1])],
        [numpy_helper.from_array(value, key) for key, value in weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    Path(f"{name}.onnx").write_bytes(made.SerializeToString(deterministic=True))
    return made


def integers(*values):
    return np.array(values, np.int64)


def summed(name):
    """Whatever `name` is, its sum as the score."""
    return node("ReduceSum", [name, "all"], "sum", keepdims=0), node("Reshape", ["sum", "one"], "score")


# An operator that our own engine does not have: with it in the graph, tract is asked.
COSINE = node("Cos", ["x"], "cosine")

FLAT = [("all", integers(0, 1, 2)), ("one", integers(1, 1))]
SQUARE = [("all", integers(0, 1)), ("one", integers(1, 1))]

# No model at all.
whole = model("whole", [*summed("x")], FLAT).SerializeToString(deterministic=True)
Path("whole.onnx").unlink()
Path("truncated.onnx").write_bytes(whole[: len(whole) // 2])
Path("no_onnx.onnx").write_bytes(b"%PDF-1.7 a report about anomalies, not a model of them\n")
Path("empty.onnx").write_bytes(b"")

# Not the promised one.
model("wrong_shape", [*summed("x")], FLAT, shape=(1, 5))
model("unknown_operator", [node("Frobnicate", ["x"], "y"), *summed("y")], FLAT)
outside = helper.make_tensor("w", F, [6], np.zeros(6, np.float32).tobytes(), raw=True)
outside.ClearField("raw_data")
outside.data_location = TensorProto.EXTERNAL
outside.external_data.add(key="location", value="../../etc/passwd")
made = model("external_data", [node("Add", ["x", "w"], "y"), *summed("y")], FLAT)
made.graph.initializer.append(outside)
Path("external_data.onnx").write_bytes(made.SerializeToString(deterministic=True))

# Too much of it: one node more than is allowed.
chain = [node("Neg", ["x" if i == 0 else f"n{i}"], f"n{i + 1}") for i in range(1998)]
model("too_many_nodes", [COSINE, *chain, *summed("n1998")], FLAT)

# Panics.
kernel = np.ones((3, 3, 1), np.float32)
model("panic_stride", [COSINE, node("Conv", ["x", "k"], "y", strides=[0]), *summed("y")], [*FLAT, ("k", kernel)])
divided = [COSINE, node("Div", ["six", "zero"], "q"), node("Cast", ["q"], "f", to=F), node("Add", ["x", "f"], "y")]
model("panic_division", [*divided, *summed("y")], [*FLAT, ("six", integers(6)), ("zero", integers(0))])
model("panic_output", [node("Neg", ["x"], "y")])

# Runs for ever: a hundred products of large matrices, computed while loading.
side = 3000
grow = [COSINE, node("ConstantOfShape", ["shape"], "m0", value=helper.make_tensor("v", F, [1], [1e-4]))]
grow += [node("MatMul", [f"m{i}", "m0"], f"m{i + 1}") for i in range(100)]
grow += [node("ReduceSum", ["m100", "square"], "s", keepdims=0), node("Add", ["x", "s"], "y")]
model("for_ever", [*grow, *summed("y")], [*FLAT, ("shape", integers(side, side)), ("square", integers(0, 1))])

# Eats memory: 64 GB of ones; 16 GB of copies of the input; 8 GB of padding.
big = node("ConstantOfShape", ["shape"], "big", value=helper.make_tensor("v", F, [1], [1.0]))
model("memory_constant", [COSINE, big, *summed("big")], [*FLAT, ("shape", integers(1, 1 << 17, 1 << 17))])
model("memory_tile", [COSINE, node("Tile", ["x", "times"], "y"), *summed("y")], [*FLAT, ("times", integers(1, 1 << 15, 1 << 14))])
pads = integers(0, 0, 0, 0, 1 << 15, 1 << 15)
model("memory_pad", [COSINE, node("Pad", ["x", "pads"], "y"), *summed("y")], [*FLAT, ("pads", pads)])
