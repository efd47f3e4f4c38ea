"""Single operators run by ONNX Runtime: the cases of tests/data/operators, which the scoring crate's kernels are held against.

    python -m venv venv && venv/bin/pip install onnx numpy onnxruntime==1.31.1
    venv/bin/python tests/training/operators.py

Each file is a list of cases: operator, attributes, inputs and ONNX Runtime's outputs by the operator's own names, numbers in
short decimal form that gives back the same f32.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

TARGET = pathlib.Path(__file__).parent.parent / "data" / "operators"
OPSET = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
random = np.random.default_rng(4)


def normal(*shape, scale=0.5):
    return (random.standard_normal(shape) * scale).astype(np.float32)


def run(operator, inputs, outputs, domain="", **attributes):
    """inputs: (name, array or None) in the operator's order; outputs: names or "" in the operator's order."""
    named = [(name, np.asarray(value)) for name, value in inputs if value is not None]
    node = helper.make_node(
        operator,
        [name if value is not None else "" for name, value in inputs],
        outputs,
        domain=domain,
        **{key: value for key, value in attributes.items() if value is not None},
    )
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in named]
    wanted = [o for o in outputs if o]
    graph = helper.make_graph([node], operator, infos, [onnx.ValueInfoProto(name=o) for o in wanted])
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(wanted, dict(named))
    return {
        "operator": operator,
        "attributes": {k: v for k, v in attributes.items() if v is not None},
        "inputs": {n: tensor(v) for n, v in named},
        "outputs": {n: tensor(v) for n, v in zip(wanted, results)},
    }


def tensor(value):
    value = np.asarray(value)
    if value.dtype == np.float32:
        numbers = [float(np.format_float_positional(v, unique=True)) for v in value.flatten()]
    else:
        numbers = [int(v) for v in value.flatten()]
    return {"shape": list(value.shape), "numbers": numbers}


def recurrent(gates, operator, hidden, steps=4, rows=2, inputs=3, ways=1, ends=False, bias=True, peep=False, **attributes):
    cell = operator == "LSTM"
    states = [("initial_h", normal(ways, rows, hidden) if ends else None)]
    if cell:
        states.append(("initial_c", normal(ways, rows, hidden) if ends else None))
        states.append(("P", normal(ways, 3 * hidden) if peep else None))
    values = [
        ("X", normal(steps, rows, inputs, scale=1.0)),
        ("W", normal(ways, gates * hidden, inputs)),
        ("R", normal(ways, gates * hidden, hidden)),
        ("B", normal(ways, 2 * gates * hidden) if bias else None),
        ("sequence_lens", None),
        *states,
    ]
    outputs = ["Y", "Y_h", "Y_c"] if cell else ["Y", "Y_h"]
    return run(operator, values, outputs, hidden_size=hidden, **attributes)


def lstm(hidden, **options):
    return recurrent(4, "LSTM", hidden, **options)


def gru(hidden, **options):
    return recurrent(3, "GRU", hidden, **options)


HARD = ["HardSigmoid", "Softsign", "Tanh"]


def recurrent_cases():
    yield lstm(5)
    yield lstm(16, bias=False)
    yield lstm(20, ends=True)
    yield lstm(5, peep=True, ends=True)
    yield lstm(5, clip=0.4)
    yield lstm(5, input_forget=1)
    yield lstm(5, direction="reverse", ends=True)
    yield lstm(5, direction="bidirectional", ways=2, ends=True, peep=True)
    yield lstm(5, activations=HARD, activation_alpha=[0.3], activation_beta=[0.4])
    yield lstm(5, direction="bidirectional", ways=2, activations=["Sigmoid", "Relu", "Tanh", "Sigmoid", "Tanh", "LeakyRelu"],
               activation_alpha=[0.2])
    for after in (0, 1):
        yield gru(5, linear_before_reset=after)
        yield gru(20, linear_before_reset=after, ends=True)
        yield gru(16, linear_before_reset=after, bias=False)
        yield gru(5, linear_before_reset=after, clip=0.4)
        yield gru(5, linear_before_reset=after, direction="reverse", ends=True)
        yield gru(5, linear_before_reset=after, direction="bidirectional", ways=2, ends=True)
        yield gru(5, linear_before_reset=after, activations=["HardSigmoid", "Relu"], activation_alpha=[0.3],
                  activation_beta=[0.4])


def convolution(operator, shape, channels, kernel, group=1, bias=True, **attributes):
    rows, inputs, _ = shape
    weights = (channels, inputs // group, kernel) if operator == "Conv" else (inputs, channels // group, kernel)
    values = [("X", normal(*shape, scale=1.0)), ("W", normal(*weights)), ("B", normal(channels) if bias else None)]
    return run(operator, values, ["Y"], group=group, kernel_shape=[kernel], **attributes)


def convolution_cases():
    for operator in ("Conv", "ConvTranspose"):
        yield convolution(operator, (2, 3, 11), 5, 3)
        yield convolution(operator, (1, 8, 24), 16, 5, strides=[2], pads=[2, 2])
        yield convolution(operator, (2, 16, 9), 33, 4, strides=[2], pads=[1, 1])
        yield convolution(operator, (1, 4, 20), 6, 3, dilations=[3], pads=[2, 4], bias=False)
        yield convolution(operator, (2, 6, 13), 4, 3, group=2, strides=[3], dilations=[2], pads=[1, 0])
        yield convolution(operator, (1, 20, 15), 20, 3, group=20, pads=[1, 1])
        yield convolution(operator, (1, 5, 10), 7, 1)
        yield convolution(operator, (2, 3, 12), 4, 4, auto_pad="SAME_UPPER", strides=[2])
        yield convolution(operator, (2, 3, 13), 4, 4, auto_pad="SAME_LOWER", strides=[2])
        yield convolution(operator, (2, 3, 13), 4, 4, auto_pad="VALID", strides=[2])
    yield convolution("ConvTranspose", (1, 3, 7), 4, 3, strides=[3], output_padding=[2])
    yield convolution("ConvTranspose", (1, 3, 7), 4, 3, strides=[3], output_shape=[22])


def whole(low, high, *shape, kind=np.int8):
    return random.integers(low, high, shape, endpoint=True).astype(kind)


def weights(*shape):
    """Of seven bits: on x86 without VNNI, ONNX Runtime's sums of two products of u8 and s8 saturate at sixteen."""
    return whole(-64, 63, *shape)


def scale(*shape):
    return (random.random(shape) * 0.05 + 0.01).astype(np.float32)


def quantized_cases():
    edges = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 300.0, -300.0, 1e30, -1e30, 0.0, -0.0]], np.float32)
    for kind, low, high in ((np.int8, -128, 127), (np.uint8, 0, 255)):
        point = np.array(3, kind)
        yield run("QuantizeLinear", [("x", edges), ("y_scale", np.float32(1.0)), ("y_zero_point", point)], ["y"])
        yield run("QuantizeLinear", [("x", normal(3, 4, scale=9.0)), ("y_scale", scale(4) * 3), ("y_zero_point", whole(0, 9, 4, kind=kind))], ["y"], axis=1)
        yield run("DequantizeLinear", [("x", whole(low, high, 3, 4, kind=kind)), ("x_scale", scale(4)), ("x_zero_point", whole(0, 9, 4, kind=kind))], ["y"], axis=1)
        yield run("DequantizeLinear", [("x", whole(low, high, 3, 4, kind=kind)), ("x_scale", scale(3)), ("x_zero_point", whole(0, 9, 3, kind=kind))], ["y"], axis=0)
        yield run("MatMulInteger", [("A", whole(low, high, 3, 21, kind=kind)), ("B", weights(21, 18)), ("a_zero_point", point), ("b_zero_point", np.array(1, np.int8))], ["Y"])
        for channels in ((), (18,)):
            zeros = np.zeros(channels, np.int8)
            yield run("QLinearMatMul", [("a", whole(low, high, 3, 21, kind=kind)), ("a_scale", np.float32(0.02)), ("a_zero_point", point), ("b", weights(21, 18)), ("b_scale", scale(*channels)), ("b_zero_point", zeros), ("y_scale", np.float32(0.11)), ("y_zero_point", point)], ["y"])
            for out in (True, False):
                yield run("QGemm", [("A", whole(low, high, 3, 21, kind=kind)), ("a_scale", np.float32(0.02)), ("a_zero_point", point), ("B", weights(18, 21)), ("b_scale", scale(*channels)), ("b_zero_point", zeros), ("C", whole(-3000, 3000, 18, kind=np.int32)), ("y_scale", np.float32(0.09) if out else None), ("y_zero_point", point if out else None)], ["Y"], domain="com.microsoft", transB=1, alpha=1.0)
    for values in (normal(2, 9, scale=3.0), np.abs(normal(2, 9)), -np.abs(normal(2, 9)), np.zeros((1, 3), np.float32)):
        yield run("DynamicQuantizeLinear", [("x", values)], ["y", "y_scale", "y_zero_point"])


def write(name, cases):
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (TARGET / name).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    TARGET.mkdir(parents=True, exist_ok=True)
    write("recurrent.json", recurrent_cases())
    write("convolution.json", convolution_cases())
    write("quantized.json", quantized_cases())
