"""Graphs of ai.onnx.ml's operators with settings that exporters seldom choose: tree modes, aggregates, missing tracks, labels."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from zoo_hand import Graph
from zoo_model import SIGNALS, TRAIN, asked, generator, holed

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def drawn_trees(name, trees, depth, modes):
    """Full trees of this depth, thresholds from the quarter steps so that rows of quarters meet them: the nodes_* attributes
    and (tree, node) of each leaf."""
    random, nodes, leaves = generator(name), [], []
    inner = 2**depth - 1
    for tree in range(trees):
        for node in range(2 * inner + 1):
            leaf = node >= inner
            mode = "LEAF" if leaf else modes[int(random.integers(len(modes)))]
            value = 0.0 if leaf else float(np.round(random.normal() * 4) / 4)
            feature, tracks = int(random.integers(SIGNALS)), int(random.integers(2))
            children = (0, 0) if leaf else (2 * node + 1, 2 * node + 2)
            nodes.append((tree, node, 0 if leaf else feature, value, mode, *children, 0 if leaf else tracks))
            if leaf:
                leaves.append((tree, node))
    keys = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    return {f"nodes_{key}": list(column) for key, column in zip(keys, zip(*nodes))}, leaves, random


def quarters(missing=False):
    rows = np.round(asked() * 4) / 4
    return holed(rows.astype(np.float32), "trees") if missing else rows.astype(np.float32)


def regressor(name, aggregate, targets=1, post="NONE", base=None, modes=("BRANCH_LEQ",), missing=False):
    g = Graph(name, quarters(missing))
    nodes, leaves, random = drawn_trees(name, 5, 3, modes)
    where = [(tree, node, target) for tree, node in leaves for target in range(targets) if target == 0 or random.random() < 0.7]
    told = {
        "target_treeids": [tree for tree, _, _ in where],
        "target_nodeids": [node for _, node, _ in where],
        "target_ids": [target for _, _, target in where],
        "target_weights": [float(x) for x in random.normal(size=len(where)).astype(np.float32)],
    }
    if base is not None:
        told["base_values"] = base
    value = g.ml_op(
        "TreeEnsembleRegressor", "x", aggregate_function=aggregate, n_targets=targets, post_transform=post, **nodes, **told
    )
    return g.output(value).made("tree ensemble, regressor")


def regressors():
    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        yield regressor(f"trees_{aggregate.lower()}", aggregate)
        yield regressor(f"trees_{aggregate.lower()}_three_base", aggregate, 3, base=[0.5, -0.25, 1.0])
    yield regressor("trees_logistic", "SUM", 1, "LOGISTIC", [0.2])
    yield regressor("trees_softmax", "SUM", 3, "SOFTMAX")
    yield regressor("trees_softmax_zero", "SUM", 3, "SOFTMAX_ZERO")
    yield regressor("trees_modes", "SUM", 1, modes=MODES)
    yield regressor("trees_modes_missing", "SUM", 2, modes=MODES, missing=True)
    yield regressor("trees_one_mode_missing", "SUM", missing=True)


def classifier(name, classes, labels, post="NONE", base=None, one_column=False, modes=("BRANCH_LEQ",)):
    """`one_column`: a binary classifier as boosting exports it, with weights for one class only."""
    g = Graph(name, quarters())
    nodes, leaves, random = drawn_trees(name, 4, 3, modes)
    columns = [1] if one_column else range(classes)
    where = [(tree, node, column) for tree, node in leaves for column in columns]
    told = {
        "class_treeids": [tree for tree, _, _ in where],
        "class_nodeids": [node for _, node, _ in where],
        "class_ids": [column for _, _, column in where],
        "class_weights": [float(x) for x in random.normal(size=len(where)).astype(np.float32)],
    }
    if base is not None:
        told["base_values"] = base
    words = isinstance(labels[0], str)
    told["classlabels_strings" if words else "classlabels_int64s"] = labels
    label, found = g.ml_op("TreeEnsembleClassifier", "x", outputs=2, post_transform=post, **nodes, **told)
    return g.output(label, TensorProto.STRING if words else TensorProto.INT64).output(found).made("tree ensemble, classifier")


def classifiers():
    for post in ("NONE", "LOGISTIC", "SOFTMAX"):
        yield classifier(f"forest_binary_{post.lower()}", 2, [0, 1], post, one_column=True)
        yield classifier(f"forest_three_{post.lower()}", 3, [10, 20, 30], post)
    yield classifier("forest_binary_base", 2, [0, 1], "LOGISTIC", [0.4], one_column=True)
    yield classifier("forest_binary_two_base", 2, [0, 1], "NONE", [0.4, -0.1])
    yield classifier("forest_signs", 2, [-1, 1], one_column=True)
    yield classifier("forest_words", 2, ["quiet", "alarm"], "LOGISTIC", one_column=True)
    yield classifier("forest_modes", 3, ["a", "b", "c"], "SOFTMAX", [0.1, 0.2, 0.3], modes=MODES)


def ensemble5(name, aggregate, missing=False, member=False):
    """TreeEnsemble of ai.onnx.ml 5: modes as numbers, leaves apart, one mode that asks for membership in a set."""
    rows = np.abs(np.round(asked() * 2)).astype(np.float32) if member else quarters(missing)
    g = Graph(name, rows, opset=21, ml=5)
    random, leaf = generator(name), 0
    columns = {key: [] for key in ("feature", "split", "mode", "true", "false", "true_leaf", "false_leaf", "tracks")}
    sets, roots, weights, targets = [], [], [], []
    for _ in range(4):
        start = len(columns["feature"])
        roots.append(start)
        # Seven inner nodes of depth 3: the last four have leaves on both sides.
        for node in range(7):
            mode = 6 if member and node == 2 else int(random.integers(6))
            value = 1.0 if mode == 6 else float(np.round(random.normal() * 4) / 4)
            if mode == 6:
                # ONNX Runtime knows whole numbers from 1 to 32 only.
                sets += [1.0, 2.0, 5.0, float("nan")]
            inner = node < 3
            columns["feature"].append(int(random.integers(SIGNALS)))
            columns["split"].append(value)
            columns["mode"].append(mode)
            columns["tracks"].append(int(random.integers(2)))
            for side, place in [("true", 1), ("false", 2)]:
                columns[side].append(start + 2 * node + place if inner else leaf)
                columns[f"{side}_leaf"].append(0 if inner else 1)
                if not inner:
                    weights.append(float(np.float32(random.normal())))
                    targets.append(leaf % 2)
                    leaf += 1
    tensor = lambda values, dtype: numpy_helper.from_array(np.asarray(values, dtype=dtype))
    told = {
        "tree_roots": roots,
        "nodes_featureids": columns["feature"],
        "nodes_splits": tensor(columns["split"], np.float32),
        "nodes_modes": tensor(columns["mode"], np.uint8),
        "nodes_truenodeids": columns["true"],
        "nodes_falsenodeids": columns["false"],
        "nodes_trueleafs": columns["true_leaf"],
        "nodes_falseleafs": columns["false_leaf"],
        "leaf_targetids": targets,
        "leaf_weights": tensor(weights, np.float32),
        "nodes_missing_value_tracks_true": columns["tracks"],
    }
    if sets:
        told["membership_values"] = tensor(sets, np.float32)
    functions = {"AVERAGE": 0, "SUM": 1, "MIN": 2, "MAX": 3}
    value = g.ml_op("TreeEnsemble", "x", n_targets=2, aggregate_function=functions[aggregate], post_transform=0, **told)
    return g.output(value).made("tree ensemble, version 5")


def ensembles5():
    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        yield ensemble5(f"trees5_{aggregate.lower()}", aggregate)
    yield ensemble5("trees5_missing", "SUM", missing=True)
    yield ensemble5("trees5_member", "SUM", member=True)


def codes():
    """Encoders of labels and categories over rounded telemetry."""
    rows = np.clip(np.round(asked()), -2, 2).astype(np.float32)
    g = Graph("label_encoders", rows)
    whole = g.op("Cast", "x", to=TensorProto.INT64)
    # Keys that are missing meet the default.
    g.output(g.ml_op("LabelEncoder", whole, keys_int64s=[-1, 0, 1], values_floats=[0.5, 0.25, 4.0], default_float=-9.0))
    g.label(g.ml_op("LabelEncoder", "x", keys_floats=[-1.0, 0.0, 1.0], values_int64s=[7, 8, 9], default_int64=-3))
    g.output(g.ml_op("LabelEncoder", "x", keys_floats=[0.0, 1.0], values_floats=[10.0, 11.0]))
    words = g.ml_op("LabelEncoder", whole, keys_int64s=[-1, 0, 1], values_strings=["low", "mid", "high"], default_string="far")
    g.label(g.ml_op("LabelEncoder", words, keys_strings=["low", "far"], values_int64s=[1, 2], default_int64=0))
    yield g.output(words, TensorProto.STRING).made("codes")
    g = Graph("one_hot_encoders", rows)
    g.output(g.ml_op("OneHotEncoder", g.op("Cast", "x", to=TensorProto.INT64), cats_int64s=[-1, 0, 1], zeros=1))
    yield g.output(g.ml_op("OneHotEncoder", "x", cats_int64s=[-1, 0, 2], zeros=1)).made("codes")


def rows_of_numbers():
    """Operators that give each row back changed."""
    g = Graph("scaler_settings")
    g.output(g.ml_op("Scaler", "x", offset=[0.5], scale=[2.0]))
    g.output(g.ml_op("Scaler", "x", offset=list(map(float, TRAIN.mean(0))), scale=list(map(float, 1 / TRAIN.std(0)))))
    yield g.made("scaling")
    rows = asked()
    rows[2] = 0.0
    rows[3] = -np.abs(rows[3])
    g = Graph("normalizer_settings", rows)
    for norm in ("MAX", "L1", "L2"):
        g.output(g.ml_op("Normalizer", "x", norm=norm))
    yield g.made("normalizing")
    marked = asked()
    marked[::3, 1] = -1.0
    g = Graph("imputer_marked", marked)
    g.output(g.ml_op("Imputer", "x", imputed_value_floats=[0.25] * SIGNALS, replaced_value_float=-1.0))
    yield g.output(g.ml_op("Imputer", "x", imputed_value_floats=[0.5], replaced_value_float=-1.0)).made("missing values")
    g = Graph("imputer_nan", holed(asked(), "imputer"))
    g.output(g.ml_op("Imputer", "x", imputed_value_floats=list(map(float, range(SIGNALS))), replaced_value_float=float("nan")))
    yield g.made("missing values")
    g = Graph("picked_features")
    picked = g.ml_op("ArrayFeatureExtractor", "x", g.ints(5, 0, 5))
    joined = g.ml_op("FeatureVectorizer", picked, g.ml_op("Binarizer", "x", threshold=0.1), inputdimensions=[3, SIGNALS])
    yield g.output(picked).output(joined).made("columns apart")


def linear():
    g = Graph("linear_regressor_targets")
    random = g.random
    for post in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        weights = [float(x) for x in random.normal(size=3 * SIGNALS).astype(np.float32)]
        g.output(g.ml_op("LinearRegressor", "x", coefficients=weights, intercepts=[0.1, -0.2, 0.3], targets=3, post_transform=post))
    single = [float(x) for x in random.normal(size=SIGNALS).astype(np.float32)]
    yield g.output(g.ml_op("LinearRegressor", "x", coefficients=single)).made("linear regression")
    for post in ("NONE", "LOGISTIC", "SOFTMAX"):
        g = Graph(f"linear_classifier_{post.lower()}")
        weights = [float(x) for x in g.random.normal(size=3 * SIGNALS).astype(np.float32)]
        told = {"coefficients": weights, "intercepts": [0.1, -0.2, 0.3], "classlabels_ints": [3, 5, 7]}
        label, found = g.ml_op("LinearClassifier", "x", outputs=2, post_transform=post, multi_class=1, **told)
        yield g.label(label).output(found).made("logistic regression")


def support_vectors():
    for kernel in ("RBF", "LINEAR", "POLY", "SIGMOID"):
        for one_class in (0, 1):
            g = Graph(f"svm_regressor_{kernel.lower()}{'_one_class' if one_class else ''}")
            vectors = [float(x) for x in g.random.normal(size=6 * SIGNALS).astype(np.float32)]
            weights = [float(x) for x in g.random.normal(size=6).astype(np.float32)]
            value = g.ml_op(
                "SVMRegressor",
                "x",
                kernel_type=kernel,
                kernel_params=[0.1, 0.3, 3.0],
                n_supports=6,
                support_vectors=vectors,
                coefficients=weights,
                rho=[0.2],
                one_class=one_class,
            )
            yield g.output(value).made("support vector regression")


def mappings():
    g = Graph("zipmap_whole")
    weights = [float(x) for x in g.random.normal(size=2 * SIGNALS).astype(np.float32)]
    told = {"coefficients": weights, "intercepts": [0.1, -0.2], "classlabels_ints": [0, 1]}
    label, found = g.ml_op("LinearClassifier", "x", outputs=2, post_transform="SOFTMAX", **told)
    # A ZipMap's result can be an output only: the node itself names it.
    g.label(label)
    g.nodes.append(helper.make_node("ZipMap", [found], ["mapped"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]))
    element = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    g.outputs.append(helper.make_value_info("mapped", helper.make_sequence_type_proto(element)))
    yield g.made("logistic regression")


def models():
    parts = (regressors, classifiers, ensembles5, codes, rows_of_numbers, linear, support_vectors, mappings)
    return [made for part in parts for made in part()]
