"""Graphs written with onnx.helper: operators and settings that exporters seldom choose, and graphs that people write by hand."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo_model import ROWS, SIGNALS, TRAIN, Made, asked, generator, waves

EXPORTER = "onnx.helper"


class Graph:
    """Builds one graph, node by node, with one input `x`."""

    def __init__(self, name, rows=None, opset=18, ml=3):
        self.name, self.opset, self.ml = name, opset, ml
        self.rows = asked() if rows is None else rows
        self.random = generator(name)
        self.nodes, self.constants, self.outputs = [], [], []

    def constant(self, values, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def ints(self, *values):
        return self.constant(values, np.int64)

    def drawn(self, *shape):
        return self.constant(self.random.normal(size=shape) / np.sqrt(shape[0] if shape else 1))

    def op(self, kind, *inputs, outputs=1, domain="", **attributes):
        """Adds a node; gives the name of its output, or a list of them."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def ml_op(self, kind, *inputs, outputs=1, **attributes):
        return self.op(kind, *inputs, outputs=outputs, domain="ai.onnx.ml", **attributes)

    def output(self, value, kind=TensorProto.FLOAT):
        """Declares an output; returns self so that calls can be chained."""
        name = f"y{len(self.outputs)}"
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, kind, None))
        return self

    def label(self, value):
        return self.output(value, TensorProto.INT64)

    def made(self, family):
        shape = ["N", *self.rows.shape[1:]]
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, self.name, [given], self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", self.ml)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        model = onnx.shape_inference.infer_shapes(model)
        model.graph.ClearField("value_info")
        return Made(self.name, family, EXPORTER, model.SerializeToString(deterministic=True), {"x": self.rows})


def elementwise():
    """Operators of one or two numbers, each over telemetry that stays in its domain."""
    g = Graph("elementwise_one", opset=20)
    size = g.op("Add", g.op("Abs", "x"), g.constant(0.1))
    for kind in ("Sqrt", "Log", "Reciprocal"):
        g.output(g.op(kind, size))
    small = g.op("Clip", "x", g.constant(-5.0), g.constant(5.0))
    for kind in ("Exp", "Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Erf", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh"):
        g.output(g.op(kind, small))
    yield g.made("elementwise")
    g = Graph("elementwise_two")
    other = g.drawn(SIGNALS)
    for kind in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Mean", "Sum"):
        g.output(g.op(kind, "x", other))
    size = g.op("Add", g.op("Abs", "x"), g.constant(0.1))
    for power in (2.0, 0.5, -1.5, 3.0):
        g.output(g.op("Pow", size, g.constant(power)))
    g.output(g.op("Pow", "x", g.constant(2, np.int64)))
    g.output(g.op("Mod", "x", g.constant(0.7), fmod=1))
    g.output(g.op("Min", "x", other, g.constant(0.3)))
    g.output(g.op("Max", "x", g.drawn(1, SIGNALS), g.constant([-0.3])))
    yield g.made("elementwise")


def clips_and_choices():
    g = Graph("clip_bounds")
    g.output(g.op("Clip", "x", g.constant(-0.5))).output(g.op("Clip", "x", "", g.constant(0.5))).output(g.op("Clip", "x"))
    yield g.made("elementwise")
    g = Graph("clip_attributes", opset=6)
    yield g.output(g.op("Clip", "x", min=-0.25, max=0.75)).made("elementwise")
    g = Graph("comparisons")
    other = g.constant(np.linspace(-1, 1, SIGNALS))
    for kind in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"):
        g.output(g.op("Cast", g.op(kind, "x", other), to=TensorProto.FLOAT))
    low, high = g.op("Less", "x", other), g.op("Greater", "x", g.constant(0.1))
    for kind in ("And", "Or", "Xor"):
        g.output(g.op("Cast", g.op(kind, low, high), to=TensorProto.FLOAT))
    g.output(g.op("Where", g.op("Not", low), "x", g.constant(7.0)))
    yield g.made("comparisons")
    rows = asked()
    rows[3, 2], rows[4, 1], rows[5, 0] = np.nan, np.inf, -np.inf
    g = Graph("missing_by_hand", rows, opset=20)
    g.output(g.op("Where", g.op("IsNaN", "x"), g.constant(0.5), "x"))
    g.output(g.op("Cast", g.op("IsInf", "x"), to=TensorProto.FLOAT))
    g.output(g.op("Relu", "x")).output(g.op("Max", "x", g.constant(0.2))).output(g.op("Clip", "x", g.constant(-1.0), g.constant(1.0)))
    yield g.made("missing values")
    g = Graph("casts", np.round(asked() * 4) / 4)
    whole = g.op("Cast", "x", to=TensorProto.INT64)
    g.label(whole).output(g.op("Cast", whole, to=TensorProto.FLOAT))
    g.output(g.op("Cast", g.op("Cast", "x", to=TensorProto.BOOL), to=TensorProto.FLOAT))
    g.output(g.op("Cast", g.op("Cast", "x", to=TensorProto.DOUBLE), to=TensorProto.FLOAT))
    g.output(g.op("Cast", g.op("Cast", "x", to=TensorProto.INT32), to=TensorProto.FLOAT))
    g.output(g.op("Cast", g.op("Cast", "x", to=TensorProto.FLOAT16), to=TensorProto.FLOAT))
    yield g.made("casts")


REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


def reductions():
    for opset in (11, 18):
        g = Graph(f"reductions_opset{opset}", waves("asked", ROWS, 6), opset)
        for kind in REDUCTIONS:
            value = g.op("Add", g.op("Abs", "x"), g.constant(0.5)) if kind == "LogSum" else "x"
            for axes, keep in [([-1], 1), ([1], 0), ([1, 2], 0)]:
                by_input = opset >= 18 or (kind == "Sum" and opset >= 13)
                inputs, attributes = ((value, g.ints(*axes)), {}) if by_input else ((value,), {"axes": axes})
                g.output(g.op(f"Reduce{kind}", *inputs, keepdims=keep, **attributes))
        yield g.made("reductions")
    rows = asked()
    rows[4], rows[5] = 90.0, -95.0
    g = Graph("log_sum_exp_far", rows)
    yield g.output(g.op("ReduceLogSumExp", "x", g.ints(1), keepdims=0)).made("reductions")
    g = Graph("extremes")
    for kind in ("ArgMax", "ArgMin"):
        g.label(g.op(kind, "x", axis=1, keepdims=0))
    tied = g.op("Round", "x")
    g.label(g.op("ArgMax", tied, axis=-1, keepdims=1, select_last_index=1)).label(g.op("ArgMin", tied, axis=1, keepdims=0))
    for largest in (1, 0):
        values, places = g.op("TopK", "x", g.ints(3), outputs=2, axis=1, largest=largest)
        g.output(values).label(places)
    values, places = g.op("TopK", tied, g.ints(4), outputs=2, axis=-1)
    yield g.output(values).label(places).made("extremes")


def shapes():
    g = Graph("pieces", opset=18)
    g.output(g.op("Slice", "x", g.ints(1), g.ints(7), g.ints(1), g.ints(2)))
    g.output(g.op("Slice", "x", g.ints(-1), g.ints(-9), g.ints(1), g.ints(-1)))
    g.output(g.op("Slice", "x", g.ints(-3), g.ints(9223372036854775807), g.ints(-1)))
    a, b, c = g.op("Split", "x", g.ints(3, 1, 4), outputs=3, axis=1)
    g.output(g.op("Concat", c, a, b, axis=1)).output(g.op("Mul", a, b))
    g.output(g.op("Gather", "x", g.ints(7, 0, -2, 0), axis=1)).output(g.op("Gather", "x", g.constant(3, np.int64), axis=1))
    g.output(g.op("Tile", "x", g.ints(1, 2))).output(g.op("Pad", "x", g.ints(0, 1, 0, 2), g.constant(0.5)))
    g.output(g.op("CumSum", "x", g.constant(1, np.int64))).output(g.op("CumSum", "x", g.constant(1, np.int64), exclusive=1, reverse=1))
    yield g.made("shapes")
    g = Graph("split_even", opset=13)
    first, second = g.op("Split", "x", outputs=2, axis=-1)
    yield g.output(g.op("Sub", first, second)).made("shapes")
    g = Graph("rearranged", waves("asked", ROWS, 6), opset=18)
    turned = g.op("Transpose", "x", perm=[0, 2, 1])
    g.output(turned).output(g.op("Reshape", "x", g.ints(0, -1))).output(g.op("Reshape", turned, g.ints(-1, 2, 24)))
    g.output(g.op("Flatten", turned, axis=1)).output(g.op("Unsqueeze", "x", g.ints(1, 4)))
    one = g.op("Slice", "x", g.ints(2), g.ints(3), g.ints(1))
    g.output(g.op("Squeeze", one, g.ints(1))).output(g.op("Expand", one, g.ints(1, 6, 1)))
    g.output(g.op("Concat", "x", one, axis=1)).output(g.op("Add", "x", g.drawn(6, 1))).output(g.op("Mul", "x", one))
    yield g.made("shapes")
    g = Graph("shape_arithmetic", waves("asked", ROWS, 6), opset=15)
    shape = g.op("Shape", "x")
    rows = g.op("Unsqueeze", g.op("Gather", shape, g.constant(0, np.int64)), g.ints(0))
    g.output(g.op("Reshape", "x", g.op("Concat", rows, g.ints(-1), axis=0)))
    state = g.op("ConstantOfShape", g.op("Concat", rows, g.ints(1, 4), axis=0), value=helper.make_tensor("v", 1, [1], [0.5]))
    g.output(g.op("MatMul", g.op("Expand", state, g.ints(1, 6, 4)), g.drawn(4, 3)))
    yield g.made("shapes")


def products():
    g = Graph("products", opset=13)
    g.output(g.op("Gemm", "x", g.drawn(3, SIGNALS), g.drawn(3), transB=1, alpha=0.5, beta=2.0))
    g.output(g.op("Gemm", "x", g.drawn(SIGNALS, 5))).output(g.op("Gemm", "x", g.drawn(SIGNALS, 1), g.constant([0.3])))
    g.output(g.op("MatMul", "x", g.drawn(SIGNALS, 17))).output(g.op("MatMul", "x", g.drawn(SIGNALS)))
    g.output(g.op("Einsum", "x", g.drawn(SIGNALS, 4), equation="ni,ij->nj"))
    yield g.made("products")
    g = Graph("products_batched", waves("asked", ROWS, 6), opset=13)
    g.output(g.op("MatMul", "x", g.drawn(SIGNALS, 5))).output(g.op("MatMul", "x", g.op("Transpose", "x", perm=[0, 2, 1])))
    yield g.output(g.op("MatMul", g.drawn(3, 6), "x")).made("products")
    g = Graph("cosine_to_last", waves("asked", ROWS, 6), opset=13)
    last = g.op("Slice", "x", g.ints(-1), g.ints(100), g.ints(1))
    over = g.op("ReduceSum", g.op("Mul", "x", last), g.ints(2), keepdims=0)
    under = g.op("Mul", g.op("ReduceL2", "x", axes=[2], keepdims=0), g.op("ReduceL2", last, axes=[2], keepdims=0))
    yield g.output(g.op("Div", over, under)).made("products")


def normal_forms():
    g = Graph("softmax_opset11", waves("asked", ROWS, 6), opset=11)
    g.output(g.op("Softmax", "x", axis=1)).output(g.op("LogSoftmax", "x", axis=2)).output(g.op("Softmax", "x", axis=-1))
    yield g.made("softmax")
    g = Graph("softmax_opset13", waves("asked", ROWS, 6), opset=13)
    g.output(g.op("Softmax", "x", axis=1)).output(g.op("LogSoftmax", "x", axis=-1)).output(g.op("Hardmax", "x", axis=-1))
    yield g.made("softmax")
    g = Graph("norms", opset=17)
    scale, shift = g.constant(g.random.uniform(0.5, 1.5, SIGNALS)), g.drawn(SIGNALS)
    g.output(g.op("LayerNormalization", "x", scale, shift, axis=-1, epsilon=1e-3))
    spread = g.constant(g.random.uniform(0.5, 2, SIGNALS))
    g.output(g.op("BatchNormalization", "x", scale, shift, g.drawn(SIGNALS), spread))
    g.output(g.op("LpNormalization", "x", axis=1, p=2)).output(g.op("LpNormalization", "x", axis=1, p=1))
    yield g.made("normalising")
    g = Graph("activations", opset=20)
    for kind in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Mish", "HardSwish", "Selu", "Elu", "Celu"):
        g.output(g.op(kind, "x"))
    for approximate in ("none", "tanh"):
        g.output(g.op("Gelu", "x", approximate=approximate))
    g.output(g.op("LeakyRelu", "x", alpha=0.3)).output(g.op("HardSigmoid", "x", alpha=0.3, beta=0.4))
    g.output(g.op("ThresholdedRelu", "x", alpha=0.4)).output(g.op("PRelu", "x", g.constant(np.linspace(0, 1, SIGNALS))))
    yield g.made("activations")


def recurrent():
    """Settings of LSTM, GRU and RNN that other frameworks' exporters choose."""
    hidden, length = 5, 7
    cases = [
        ("lstm_reverse", "LSTM", 4, {"direction": "reverse"}),
        ("lstm_peephole_clip", "LSTM", 4, {"clip": 0.8}),
        ("lstm_hard", "LSTM", 4, {"activations": ["HardSigmoid", "Softsign", "Tanh"], "activation_alpha": [0.2], "activation_beta": [0.5]}),
        ("gru_reset_before", "GRU", 3, {"linear_before_reset": 0}),
        ("gru_reset_after", "GRU", 3, {"linear_before_reset": 1}),
        ("gru_both_ways", "GRU", 3, {"direction": "bidirectional", "linear_before_reset": 0}),
        ("rnn_relu", "RNN", 1, {"activations": ["Relu"]}),
    ]
    for name, kind, gates, attributes in cases:
        g = Graph(f"{name}_by_hand", waves("asked", ROWS, length), opset=14)
        ways = 2 if attributes.get("direction") == "bidirectional" else 1
        weights = [g.drawn(ways, gates * hidden, size) for size in (SIGNALS, hidden)] + [g.drawn(ways, 2 * gates * hidden)]
        more = ["", "", "", g.drawn(ways, 3 * hidden)] if "peephole" in name else []
        turned = g.op("Transpose", "x", perm=[1, 0, 2])
        states, last = g.op(kind, turned, *weights, *more, outputs=2, hidden_size=hidden, **attributes)
        g.output(g.op("Transpose", states, perm=[2, 0, 1, 3])).output(g.op("Transpose", last, perm=[1, 0, 2]))
        yield g.made("recurrent layer")


def scores():
    """Anomaly scores that people write into the graph after fitting with numpy or scikit-learn."""
    mean, spread = TRAIN.mean(0), TRAIN.std(0)
    scaled = (TRAIN - mean) / spread
    _, _, components = np.linalg.svd(scaled - scaled.mean(0), full_matrices=False)
    g = Graph("pca_score")
    z = g.op("Div", g.op("Sub", "x", g.constant(mean)), g.constant(spread))
    kept = g.constant(components[:3].T)
    again = g.op("MatMul", g.op("MatMul", z, kept), g.constant(components[:3]))
    error = g.op("Mul", g.op("Sub", z, again), g.op("Sub", z, again))
    g.output(g.op("ReduceMean", error, g.ints(1), keepdims=0)).output(error)
    yield g.made("principal components, reconstruction score")
    g = Graph("mahalanobis")
    apart = g.op("Sub", "x", g.constant(mean))
    precision = g.constant(np.linalg.inv(np.cov(TRAIN.T)))
    squares = g.op("ReduceSum", g.op("Mul", g.op("MatMul", apart, precision), apart), g.ints(1), keepdims=0)
    g.output(g.op("Sqrt", squares)).label(g.op("Cast", g.op("Greater", squares, g.constant(20.0)), to=TensorProto.INT64))
    yield g.made("elliptic envelope")
    g = Graph("robust_z_top")
    z = g.op("Abs", g.op("Div", g.op("Sub", "x", g.constant(np.median(TRAIN, 0))), g.constant(spread)))
    values, places = g.op("TopK", z, g.ints(2), outputs=2, axis=1)
    yield g.output(g.op("ReduceMean", values, g.ints(1), keepdims=1)).label(places).made("robust score")


def models():
    parts = (elementwise, clips_and_choices, reductions, shapes, products, normal_forms, recurrent, scores)
    return [made for part in parts for made in part()]
