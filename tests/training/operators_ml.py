"""Small random operators of ai.onnx.ml and what ONNX Runtime gives for them.

    python operators_ml.py

Writes tests/data/operators/ml.json: one line a case with the operator's attributes as ONNX files have them, the input's rows and
the outputs. A NaN is null there, an
infinity beyond what an f32 can hold. Needs onnx, onnxruntime and numpy.
"""

import itertools
import json

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from telemetry import DATA

OUT = DATA / "operators"
ROWS = 13
FEATURES = 5
rng = np.random.default_rng(4)
TRANSFORMS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"]
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
cases = []


def session(node, version, outputs, element=TensorProto.FLOAT):
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", element, [None, None])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs])
    model = helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", version)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def plain(value):
    """As JSON has it."""
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.ravel()]
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if np.isnan(value):
        return None
    if np.isinf(value):
        return 1e39 if value > 0 else -1e39
    # The shortest text that gives this f32 again.
    return float(np.format_float_positional(np.float32(value), unique=True, trim="0"))


def case(name, op, attributes, x, version=3, labels=None, as_tensor=()):
    given = {k: (numpy_helper.from_array(np.array(v, dtype=np.float32 if k != "nodes_modes" else np.uint8), k)
                 if k in as_tensor else v) for k, v in attributes.items() if v != []}
    outputs = [("label", labels), ("y", TensorProto.FLOAT)] if labels else [("y", TensorProto.FLOAT)]
    node = helper.make_node(op, ["x"], [o for o, _ in outputs], domain="ai.onnx.ml", **given)
    try:
        results = session(node, version, outputs).run(None, {"x": x})
    except Exception as error:
        print("ONNX Runtime refuses", name, str(error)[:200])
        return
    line = {"name": name, "op": op, "features": x.shape[1], "attributes": {k: plain(v) for k, v in attributes.items() if v != []},
            "input": plain(x), "columns": int(results[-1].size // len(x)), "y": plain(results[-1].astype(np.float64))}
    if labels:
        line["labels"] = plain(results[0])
    cases.append(line)


def rows(missing=False, whole=False):
    x = rng.normal(size=(ROWS, FEATURES)).round(1).astype(np.float32)
    if whole:
        x = np.round(x * 2).astype(np.float32)
    if missing:
        x[rng.random(x.shape) < 0.15] = np.nan
    return x


def trees(count, depth, modes, missing, columns, dense, low, high, only=None):
    """Random trees: the nodes' lists and the weights' lists."""
    n = {k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids",
                         "missing_value_tracks_true")}
    w = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(count):
        waiting, number = [(0, 0)], 1
        while waiting:
            node, level = waiting.pop(0)
            leaf = level == depth or (level > 0 and rng.random() < 0.25)
            mode = "LEAF" if leaf else str(rng.choice(modes))
            value = np.float32(np.round(rng.normal() * 2) if mode in MODES[4:] else round(rng.normal(), 1))
            entry = (tree, node, int(rng.integers(FEATURES)), mode, 0.0 if leaf else float(value),
                     0 if leaf else number, 0 if leaf else number + 1, int(missing and rng.random() < 0.5))
            for key, v in zip(n, entry):
                n[key].append(v)
            if not leaf:
                waiting += [(number, level + 1), (number + 1, level + 1)]
                number += 2
                continue
            ids = range(columns) if dense else [only if only is not None else int(rng.integers(columns))]
            for column in ids:
                for key, v in zip(w, (tree, node, column, float(np.float32(round(rng.uniform(low, high), 3))))):
                    w[key].append(v)
    return {f"nodes_{k}": v for k, v in n.items()}, w


def regressor(name, modes=("BRANCH_LEQ",), missing=False, targets=1, dense=True, low=-1.0, high=1.0, whole=False, **rest):
    nodes, w = trees(4, 3, modes, missing, targets, dense, low, high)
    attributes = nodes | {f"target_{k}": v for k, v in w.items()} | {"n_targets": targets} | rest
    case(f"regressor {name}", "TreeEnsembleRegressor", attributes, rows(missing, whole))


def classifier(name, classes=2, dense=False, only=None, low=-1.0, high=1.0, labels=None, missing=False, **rest):
    nodes, w = trees(4, 3, ["BRANCH_LEQ"], missing, classes, dense, low, high, only)
    attributes = nodes | {f"class_{k}": v for k, v in w.items()} | rest
    if labels is None or isinstance(labels[0], int):
        attributes["classlabels_int64s"] = labels or [3, 8, 5, 11][:classes]
    else:
        attributes["classlabels_strings"] = labels
    case(f"classifier {name}", "TreeEnsembleClassifier", attributes, rows(missing),
         labels=TensorProto.STRING if labels and isinstance(labels[0], str) else TensorProto.INT64)


def tree_cases():
    for mode in MODES:
        for missing in (False, True):
            regressor(f"{mode}, missing {missing}", [mode], missing, whole=mode in MODES[4:])
    regressor("mixed modes", MODES, True, whole=True)
    for function, targets in itertools.product(["SUM", "AVERAGE", "MIN", "MAX"], [1, 3]):
        base = numbers(targets)
        regressor(f"{function}, {targets} targets", targets=targets, dense=False, aggregate_function=function)
        regressor(f"{function}, {targets} targets, base", targets=targets, aggregate_function=function, base_values=base)
    for transform, targets in itertools.product(TRANSFORMS, [1, 2, 3]):
        regressor(f"{transform}, {targets} targets", targets=targets, low=0.01, high=0.12, post_transform=transform)
    for transform, (low, high), only in itertools.product(TRANSFORMS, [(0.01, 0.13), (-0.4, 0.5)], [0, 1]):
        for base in ([], [0.1], [0.2, -0.1]):
            # A second score that ONNX Runtime leaves as the memory was.
            unwritten = transform == "PROBIT" and only == 0 and len(base) < 2
            if unwritten or transform == "PROBIT" and low < 0:
                continue
            classifier(f"two classes by {only}, {transform}, from {low}, base {base}", only=only, low=low, high=high,
                       post_transform=transform, base_values=base)
    for transform, dense in itertools.product(TRANSFORMS[:4], [False, True]):
        for base in ([], [0.1], [0.2, -0.1]):
            if not dense and len(base) == 1:
                continue  # unwritten again, where no leaf spoke for the second class
            classifier(f"two classes, both with weights, dense {dense}, {transform}, base {base}", dense=dense,
                       post_transform=transform, base_values=base)
        for base in ([], [0.1, -0.3, 0.2, 0.0]):
            classifier(f"four classes, dense {dense}, {transform}, base {base}", classes=4, dense=dense,
                       post_transform=transform, base_values=base, missing=True)
    classifier("names of two classes", only=0, labels=["calm", "storm"])
    classifier("names of three classes", classes=3, dense=True, labels=["a", "b", "c"])
    classifier("one class", classes=1)


def ensemble(name, modes, missing=False, whole=False, targets=1, **rest):
    n = {k: [] for k in ("featureids", "modes", "splits", "truenodeids", "trueleafs", "falsenodeids", "falseleafs",
                         "missing_value_tracks_true")}
    leaf_ids, leaf_weights, roots, members = [], [], [], []

    def grow(level):
        """The node's number and whether it is a leaf."""
        if level == 3 or (level > 0 and rng.random() < 0.25):
            leaf_ids.append(int(rng.integers(targets)))
            leaf_weights.append(float(np.float32(round(rng.uniform(0.01, 0.13), 3))))
            return len(leaf_ids) - 1, 1
        node = len(n["modes"])
        mode = int(rng.choice(modes))
        split = float(np.round(rng.normal() * 2)) if mode in (4, 5) else float(np.float32(round(rng.normal(), 1)))
        entry = (int(rng.integers(FEATURES)), mode, split, 0, 0, 0, 0, int(missing and rng.random() < 0.5))
        for key, v in zip(n, entry):
            n[key].append(v)
        n["truenodeids"][node], n["trueleafs"][node] = grow(level + 1)
        n["falsenodeids"][node], n["falseleafs"][node] = grow(level + 1)
        return node, 0

    for _ in range(5):
        roots.append(grow(0)[0])
    for mode in n["modes"]:
        if mode == 6:
            members += [float(v) for v in rng.choice(np.arange(-5, 6), rng.integers(1, 7), replace=False)] + [float("nan")]
    attributes = {f"nodes_{k}": v for k, v in n.items()} | {
        "leaf_targetids": leaf_ids, "leaf_weights": leaf_weights, "tree_roots": roots, "n_targets": targets} | rest
    if members:
        attributes["membership_values"] = members
    case(f"ensemble {name}", "TreeEnsemble", attributes, rows(missing, whole), version=5,
         as_tensor=("nodes_modes", "nodes_splits", "leaf_weights", "membership_values"))


def ensemble_cases():
    for missing in (False, True):
        ensemble(f"all plain modes, missing {missing}", range(6), missing, True)
        ensemble(f"sets, missing {missing}", [6], missing, True)
        ensemble(f"sets and more, missing {missing}", [0, 3, 4, 6], missing, True)
    for function, targets in itertools.product(range(4), [1, 3]):
        ensemble(f"function {function}, {targets} targets", [0], targets=targets, aggregate_function=function)
    for transform, targets in itertools.product(range(5), [1, 3]):
        ensemble(f"transform {transform}, {targets} targets", [0], targets=targets, post_transform=transform)


def numbers(*shape, scale=1.0):
    return [float(v) for v in (rng.normal(size=shape) * scale).round(2).astype(np.float32).ravel()]


def svm_cases():
    kernels = [("LINEAR", [1.0, 0.0, 0.0]), ("POLY", [0.5, 0.3, 2.0]), ("POLY", [0.5, 0.3, 3.0]), ("RBF", [0.2, 0.0, 3.0]),
               ("SIGMOID", [0.3, 0.1, 0.0])]
    for kernel, params in kernels:
        for one_class in (0, 1):
            case(f"regressor {kernel} {params}, one class {one_class}", "SVMRegressor", {
                "kernel_type": kernel, "kernel_params": params, "support_vectors": numbers(19, FEATURES), "n_supports": 19,
                "coefficients": numbers(19), "rho": numbers(1), "one_class": one_class}, rows())
        for classes, probabilities in itertools.product([2, 3, 4], [False, True]):
            per_class = [int(v) for v in rng.integers(3, 8, size=classes)]
            vectors, duels = sum(per_class), classes * (classes - 1) // 2
            for transform in (TRANSFORMS[:4] if kernel == "RBF" else ["NONE"]):
                attributes = {
                    "kernel_type": kernel, "kernel_params": params, "vectors_per_class": per_class,
                    "support_vectors": numbers(vectors, FEATURES), "coefficients": numbers(classes - 1, vectors),
                    "rho": numbers(duels), "classlabels_ints": [4, 2, 9, 7][:classes], "post_transform": transform}
                if probabilities:
                    attributes |= {"prob_a": [-abs(v) for v in numbers(duels)], "prob_b": numbers(duels, scale=0.3)}
                case(f"classifier {kernel} {params}, {classes} classes, {transform}, probabilities {probabilities}",
                     "SVMClassifier", attributes, rows(), labels=TensorProto.INT64)
    case("regressor without vectors", "SVMRegressor", {
        "kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0], "n_supports": 0, "coefficients": numbers(FEATURES),
        "rho": numbers(1)}, rows())
    for classes, positive in itertools.product([2, 3], [False, True]):
        coefficients = [abs(v) if positive else v for v in numbers(classes, FEATURES)]
        case(f"classifier without vectors, {classes} classes, positive {positive}", "SVMClassifier", {
            "kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0], "coefficients": coefficients, "rho": numbers(1),
            "classlabels_strings": ["calm", "storm", "flood"][:classes]}, rows(), labels=TensorProto.STRING)


def linear_cases():
    for transform, targets in itertools.product(TRANSFORMS, [1, 3]):
        scale = 0.05 if transform == "PROBIT" else 1.0
        case(f"regressor {transform}, {targets} targets", "LinearRegressor", {
            "coefficients": numbers(targets, FEATURES, scale=scale), "intercepts": [0.5] * targets, "targets": targets,
            "post_transform": transform}, rows())
    for transform, classes in itertools.product(TRANSFORMS[:4], [1, 2, 3]):
        for labels in ([5, 6, 7][:max(classes, 2)], ["a", "b", "c"][:max(classes, 2)]):
            kind = "classlabels_ints" if isinstance(labels[0], int) else "classlabels_strings"
            case(f"classifier {transform}, {classes} products, {kind}", "LinearClassifier", {
                "coefficients": numbers(classes, FEATURES), "intercepts": numbers(classes), kind: labels,
                "post_transform": transform}, rows(),
                labels=TensorProto.INT64 if isinstance(labels[0], int) else TensorProto.STRING)


def column_cases():
    case("one a column", "Scaler", {"offset": numbers(FEATURES), "scale": numbers(FEATURES)}, rows())
    case("one for all", "Scaler", {"offset": numbers(1), "scale": numbers(1)}, rows())
    for norm in ("MAX", "L1", "L2"):
        x = rows()
        x[3] = 0.0
        case(norm, "Normalizer", {"norm": norm}, x)
    x = rows(whole=True)
    case("a number, one for all", "Imputer", {"imputed_value_floats": [7.0], "replaced_value_float": 1.0}, x)
    case("a number, one a column", "Imputer", {
        "imputed_value_floats": [1.0, 2.0, 3.0, 4.0, 5.0], "replaced_value_float": -1.0}, x)
    case("missing, one a column", "Imputer", {
        "imputed_value_floats": [1.0, 2.0, 3.0, 4.0, 5.0], "replaced_value_float": float("nan")}, rows(missing=True))
    case("at a threshold", "Binarizer", {"threshold": 0.25}, rows())
    case("of floats", "OneHotEncoder", {"cats_int64s": [-2, 0, 1, 3], "zeros": 1}, rows(whole=True))
    case("floats to floats", "LabelEncoder", {
        "keys_floats": [-1.0, 0.0, 2.0], "values_floats": [10.5, 20.5, 30.5], "default_float": -7.0},
        rows(whole=True), version=4)


def main():
    tree_cases()
    ensemble_cases()
    svm_cases()
    linear_cases()
    column_cases()
    OUT.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(c, separators=(",", ":")) for c in cases]
    (OUT / "ml.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
