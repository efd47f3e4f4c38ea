"""Makes tests/data/streaming: graphs that take one row and a state, and what ONNX Runtime says about the whole sequence.

For each of LSTM, GRU, a causal convolution of two layers and a running sum the same random weights are written twice: once as a graph of one
row and its state (kept), once as a graph of the whole sequence in one window (run here, not kept). NAME.in.f32 holds the rows,
NAME.parts.f32 what the second graph makes of each.

    python tests/training/streaming.py tests/data/streaming
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

SIGNALS, HIDDEN, ROWS, KERNEL = 4, 8, 200, 3
FLOAT = TensorProto.FLOAT


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def value(name, shape):
    return helper.make_tensor_value_info(name, FLOAT, shape)


def model(name, nodes, inputs, outputs, weights):
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    return made


def ending(rows):
    """Parts, one a signal, and their mean square as the score."""
    return [
        helper.make_node("Gemm", [rows, "out_w", "out_b"], ["parts"]),
        helper.make_node("Mul", ["parts", "parts"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["score"], axes=[1], keepdims=1),
    ]


def recurrent(operator, random):
    gates = {"LSTM": 4, "GRU": 3}[operator]
    states = {"LSTM": ["h", "c"], "GRU": ["h"]}[operator]
    number = lambda *shape: random.normal(0, 0.5, shape).astype(np.float32)
    weights = [
        tensor("w", number(1, gates * HIDDEN, SIGNALS)),
        tensor("r", number(1, gates * HIDDEN, HIDDEN)),
        tensor("b", number(1, 2 * gates * HIDDEN)),
        tensor("out_w", number(HIDDEN, SIGNALS)),
        tensor("out_b", number(SIGNALS)),
        tensor("flat", np.array([-1, HIDDEN], np.int64)),
    ]
    settings = {"hidden_size": HIDDEN} | ({"linear_before_reset": 1} if operator == "GRU" else {})

    def graph(name, rows, streaming):
        begin = [f"{s}_in" for s in states] if streaming else []
        ends = [f"{s}_out" for s in states] if streaming else []
        nodes = [
            # (batch, time, signals), as PyTorch's batch_first exports it
            helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
            helper.make_node(operator, ["steps", "w", "r", "b", "", *begin], ["all", *ends], **settings),
            helper.make_node("Reshape", ["all", "flat"], ["rows"]),
            *ending("rows"),
        ]
        state = [1, 1, HIDDEN]
        inputs = [value("x", [1, rows, SIGNALS])] + [value(s, state) for s in begin]
        outputs = [value("score", [rows, 1]), value("parts", [rows, SIGNALS])] + [value(s, state) for s in ends]
        return model(name, nodes, inputs, outputs, weights)

    return graph


def causal(random):
    number = lambda *shape: random.normal(0, 0.5, shape).astype(np.float32)
    weights = [
        tensor("w1", number(HIDDEN, SIGNALS, KERNEL)),
        tensor("b1", number(HIDDEN)),
        tensor("w2", number(HIDDEN, HIDDEN, KERNEL)),
        tensor("b2", number(HIDDEN)),
        tensor("out_w", number(HIDDEN, SIGNALS)),
        tensor("out_b", number(SIGNALS)),
        tensor("flat", np.array([-1, HIDDEN], np.int64)),
    ]
    cut = {"one": [1], "end": [KERNEL], "two": [2]}

    def layer(source, number, streaming):
        w, b, out = f"w{number}", f"b{number}", f"conv{number}"
        before = [
            helper.make_node("Concat", [f"past{number}_in", source], [f"seen{number}"], axis=2),
            helper.make_node("Slice", [f"seen{number}", "one", "end", "two"], [f"past{number}_out"]),
            helper.make_node("Conv", [f"seen{number}", w, b], [out]),
        ]
        whole = [helper.make_node("Conv", [source, w, b], [out], pads=[KERNEL - 1, 0])]
        return (before if streaming else whole) + [helper.make_node("Relu", [out], [f"layer{number}"])]

    def graph(name, rows, streaming):
        nodes = [
            helper.make_node("Transpose", ["x"], ["channels"], perm=[0, 2, 1]),
            *layer("channels", 1, streaming),
            *layer("layer1", 2, streaming),
            helper.make_node("Transpose", ["layer2"], ["times"], perm=[0, 2, 1]),
            helper.make_node("Reshape", ["times", "flat"], ["rows"]),
            *ending("rows"),
        ]
        past = {"past1": [1, SIGNALS, KERNEL - 1], "past2": [1, HIDDEN, KERNEL - 1]} if streaming else {}
        inputs = [value("x", [1, rows, SIGNALS])] + [value(f"{p}_in", s) for p, s in past.items()]
        outputs = [value("score", [rows, 1]), value("parts", [rows, SIGNALS])]
        outputs += [value(f"{p}_out", s) for p, s in past.items()]
        places = [tensor(name, np.array(place, np.int64)) for name, place in cut.items()] if streaming else []
        return model(name, nodes, inputs, outputs, weights + places)

    return graph


def sums(random):
    """Remembers every row for ever: what a state that was lost or mixed up shows in at once."""

    def graph(name, rows, streaming):
        weights = [tensor("flat", np.array([-1, SIGNALS], np.int64))]
        if streaming:
            nodes = [
                helper.make_node("Reshape", ["x", "flat"], ["row"]),
                helper.make_node("Add", ["row", "sum_in"], ["parts"]),
                helper.make_node("Identity", ["parts"], ["sum_out"]),
            ]
        else:
            weights += [tensor("axis", np.array(1, np.int64))]
            nodes = [
                helper.make_node("CumSum", ["x", "axis"], ["running"]),
                helper.make_node("Reshape", ["running", "flat"], ["parts"]),
            ]
        nodes += ending("")[1:]
        state = {"sum": [1, SIGNALS]} if streaming else {}
        inputs = [value("x", [1, rows, SIGNALS])] + [value(f"{s}_in", shape) for s, shape in state.items()]
        outputs = [value("score", [rows, 1]), value("parts", [rows, SIGNALS])]
        outputs += [value(f"{s}_out", shape) for s, shape in state.items()]
        return model(name, nodes, inputs, outputs, weights)

    return graph


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(4)
    makers = {"lstm": recurrent("LSTM", random), "gru": recurrent("GRU", random), "causal": causal(random), "sum": sums(random)}
    for name, make in makers.items():
        rows = random.normal(0, 1, (1, ROWS, SIGNALS)).astype(np.float32)
        whole = ort.InferenceSession(make(name, ROWS, False).SerializeToString(), providers=["CPUExecutionProvider"])
        (parts,) = whole.run(["parts"], {"x": rows})
        (folder / f"{name}.onnx").write_bytes(make(name, 1, True).SerializeToString())
        (folder / f"{name}.in.f32").write_bytes(rows.tobytes())
        (folder / f"{name}.parts.f32").write_bytes(parts.astype("<f4").tobytes())
        print(f"{name}: {parts.shape}, {np.abs(parts).max():.3f} at most")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
