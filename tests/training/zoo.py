"""Makes the zoo: small models of the families that data scientists push, through the exporters that they use, and what ONNX
Runtime gives for each.

    python zoo.py                        write tests/data/zoo
    python zoo.py --coverage SOURCE      the same, with the earlier models of SOURCE (NAME.onnx, NAME.in.f32, manifest.json)
    python zoo.py --check                compare with the committed files, write nothing
    python zoo.py --only WORD            the models whose name has this word: says what they are, writes nothing

manifest.json has a line a model: its name, family and exporter, `model` (NAME.onnx.gz, or one of ../coverage), how rows go together (`batch`: "any",
"one", "whole"; see zoo_model.py), `inputs` and `outputs` with name, type ("f32", "i64", "string") and shape. An input's numbers
are a file of inputs/; the numbers of all outputs lie one after the other in NAME.out, little-endian; words stand in the manifest
(`values`), and the list that their places count in (`words`). What a ZipMap gives is stored as a tensor [rows, keys], the keys (`keys`) in rising order.

Training is repeated on every run: on another processor its last bits may fall otherwise. So --check demands the committed
models' outputs (within 2e-6) and the made models' operators, and tells how many are the same byte for byte.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

os.environ.setdefault("OMP_NUM_THREADS", "1")

from reference import session
from telemetry import DATA
from zoo_model import Made, without_metadata

ZOO = DATA / "zoo"
COVERAGE_ROWS = 32
# Committed outputs and outputs of another processor's kernels may differ by this much of 1 + |value|.
CHECK_TOLERANCE = 2e-6
# What one row and many differ by at most: other kernels run.
INDEPENDENT_TOLERANCE = 5e-6
TYPES = {"float32": "f32", "int64": "i64", "int32": "i64", "bool": "i64", "float64": "f32"}
STORED = {"f32": "<f4", "i64": "<i8"}


def run(model):
    """All outputs as the manifest has them: (name, type, array, keys or None)."""
    runner = session(model.content)
    rows = len(next(iter(model.inputs.values())))
    calls = [slice(row, row + 1) for row in range(rows)] if model.batch == "one" else [slice(None)]
    results = [runner.run(None, {name: array[call] for name, array in model.inputs.items()}) for call in calls]
    outputs = []
    for place, output in enumerate(runner.get_outputs()):
        parts = [result[place] for result in results]
        keys = None
        if isinstance(parts[0], list):
            maps = [entry for part in parts for entry in part]
            keys = sorted(maps[0])
            value = np.array([[entry[key] for key in keys] for entry in maps], dtype=np.float32)
        else:
            value = np.concatenate(parts)
        kind = "string" if value.dtype.kind in "OUS" else TYPES[value.dtype.name]
        outputs.append((output.name, kind, value, keys))
    return outputs


def close(kind, one, other, tolerance):
    """Whether two outputs are the same: numbers within `tolerance` of 1 + |value|, all else exactly."""
    if kind == "f32":
        with np.errstate(invalid="ignore"):
            near = np.abs(one - other) <= tolerance * (1 + np.abs(other))
        return np.all(near | (one == other) | (np.isnan(one) & np.isnan(other)))
    return np.array_equal(one, other)


def refuse_dependent(model):
    """Stops when rows that should not know of each other do."""
    if model.batch == "any":
        alone = run(replace(model, batch="one"))
        for (name, kind, together, _), (_, _, single, _) in zip(run(model), alone):
            if not close(kind, single, together, INDEPENDENT_TOLERANCE):
                raise SystemExit(f"{model.name}: output {name} of a row depends on the rows beside it")


def bytes_of(kind, value):
    return value.astype(STORED[kind]).tobytes()


def words_of(content, output):
    """The list that a text output's words come from: a classifier's labels, an encoder's values and its default, or the
    constant that a graph picks from."""
    graph = onnx.load_from_string(content).graph
    makers = {name: node for node in graph.node for name in node.output}
    texts = {tensor.name: tensor.string_data for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.STRING}
    while output in makers:
        node = makers[output]
        told = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        listed = told.get("classlabels_strings") or told.get("values_strings")
        if listed is not None:
            default = [told.get("default_string", b"_Unused")] if "values_strings" in told else []
            return [word.decode() for word in [*listed, *default]]
        output = node.input[0]
    return [word.decode() for word in texts[output]]


def operators(content):
    """How often each operator stands in the graph, as text in rising order."""
    nodes = onnx.load_from_string(content).graph.node
    counted = Counter((node.domain + ":" if node.domain not in ("", "ai.onnx") else "") + node.op_type for node in nodes)
    return {name: counted[name] for name in sorted(counted)}


class Zoo:
    """The files of tests/data/zoo as they should be: name -> bytes, and the manifest's lines."""

    def __init__(self):
        self.files, self.lines = {}, []

    def input_file(self, array):
        content = array.astype("<f4").tobytes()
        name = f"inputs/{hashlib.sha256(content).hexdigest()[:12]}.f32"
        self.files[name] = content
        return name

    def model_file(self, model):
        """Where the model lies: an earlier model may be in the repository already."""
        there = f"../coverage/{model.name.removeprefix('coverage_')}.onnx"
        if (ZOO / there).exists() and (ZOO / there).read_bytes() == model.content:
            return there
        self.files[f"{model.name}.onnx.gz"] = gzip.compress(model.content, 9, mtime=0)
        return f"{model.name}.onnx.gz"

    def add(self, model):
        refuse_dependent(model)
        inputs = [
            {"name": name, "shape": list(array.shape), "file": self.input_file(array)} for name, array in model.inputs.items()
        ]
        outputs, numbers = [], b""
        for name, kind, value, keys in run(model):
            line = {"name": name, "type": kind, "shape": list(value.shape)}
            if keys is not None:
                line["keys"] = keys
            if kind == "string":
                line["values"] = [str(word) for word in value.ravel()]
                line["words"] = words_of(model.content, name)
            else:
                numbers += bytes_of(kind, value)
            outputs.append(line)
        about = {"name": model.name, "family": model.family, "exporter": model.exporter, "batch": model.batch}
        about |= {"model": self.model_file(model), "operators": operators(model.content)}
        self.files[f"{model.name}.out"] = numbers
        self.lines.append(about | {"inputs": inputs, "outputs": outputs})

    def manifest(self):
        lines = sorted(self.lines, key=lambda line: line["name"])
        return "[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n"


def coverage_family(name):
    """What the earlier models are, by their names."""
    families = {
        "dense_ae_score": "dense autoencoder with its score",
        "dense_ae": "dense autoencoder",
        "dense_f16": "half floats, dense autoencoder",
        "dense_int8_qdq": "int8 qdq, dense autoencoder",
        "dense_int8_qop": "int8 qoperator, dense autoencoder",
        "dense_int8_dyn": "int8 dynamic, dense autoencoder",
        "conv_ae": "convolutional autoencoder",
        "causal_conv": "causal convolution",
        "gru": "recurrent forecaster",
        "lstm_ae": "recurrent autoencoder",
        "transformer": "transformer encoder",
        "kmeans": "k-means",
        "lof": "local outlier factor",
        "logreg": "logistic regression",
        "rf": "random forest",
        "gbc": "gradient boosting",
        "gmm": "Gaussian mixture",
        "iforest": "isolation forest",
        "ocsvm": "one-class support vectors",
        "scaler_pca": "principal components",
        "lgbm": "LightGBM",
        "xgb": "XGBoost",
    }
    return next(family for start, family in families.items() if name.startswith(start))


def coverage_exporter(name):
    if "int8" in name:
        return "onnxruntime.quantization"
    if name == "dense_f16":
        return "onnxruntime.transformers"
    if name.startswith(("xgb", "lgbm")):
        return "onnxmltools"
    if name.startswith(("dense", "conv", "causal", "gru", "lstm", "transformer")):
        return "torch.onnx (dynamo)" if name.endswith("_dy") else "torch.onnx (script)"
    return "skl2onnx"


def coverage_models(source):
    """The models of an earlier study, from their folder, as they are but for the exporter's notes."""
    told = json.loads((source / "manifest.json").read_text())
    for path in sorted(source.glob("*.onnx")):
        name, about = path.stem, told[path.stem]
        rows = np.fromfile(source / f"{name}.in.f32", dtype="<f4").reshape(about["in_shape"])[:COVERAGE_ROWS]
        content = path.read_bytes()
        if not (DATA / "coverage" / path.name).exists():
            content = without_metadata(onnx.load_from_string(content)).SerializeToString(deterministic=True)
        batch = "one" if name == "dense_int8_dyn" else "any"
        yield Made(f"coverage_{name}", coverage_family(name), coverage_exporter(name), content, {about["input"]: rows}, batch)


def committed():
    """The models that lie in tests/data/zoo, by name."""
    if not (ZOO / "manifest.json").exists():
        return {}
    return {line["name"]: line for line in json.loads((ZOO / "manifest.json").read_text())}


def stored_model(line):
    """The bytes of a committed model."""
    content = (ZOO / line["model"]).read_bytes()
    return gzip.decompress(content) if line["model"].endswith(".gz") else content


def as_made(line):
    """A committed line as its maker would hand it over."""
    inputs = {
        given["name"]: np.frombuffer((ZOO / given["file"]).read_bytes(), dtype="<f4").reshape(given["shape"])
        for given in line["inputs"]
    }
    return Made(line["name"], line["family"], line["exporter"], stored_model(line), inputs, line["batch"])


def all_made():
    """Every model that this folder's scripts make; the imports take seconds, so they stand here."""
    import zoo_boosted
    import zoo_hand
    import zoo_hand_ml
    import zoo_quantized
    import zoo_sklearn
    import zoo_torch

    torch_models = zoo_torch.models()
    others = [zoo_sklearn.models(), zoo_boosted.models(), zoo_hand.models(), zoo_hand_ml.models()]
    return [*torch_models, *zoo_quantized.models(torch_models), *(made for part in others for made in part)]


def differs(line):
    """What of a committed model's outputs ONNX Runtime does not give; empty when all is well."""
    numbers, wrong = (ZOO / f"{line['name']}.out").read_bytes(), []
    for (name, kind, value, _), told in zip(run(as_made(line)), line["outputs"], strict=True):
        if kind == "string":
            same = [str(word) for word in value.ravel()] == told["values"]
        else:
            size = value.size * np.dtype(STORED[kind]).itemsize
            stored, numbers = np.frombuffer(numbers[:size], STORED[kind]), numbers[size:]
            same = close(kind, value.ravel(), stored, CHECK_TOLERANCE)
        if not same or list(value.shape) != told["shape"]:
            wrong.append(name)
    return wrong


def check(models):
    """Stops with what differs between the committed files and what the scripts make."""
    lines, wrong, same = committed(), [], 0
    for line in lines.values():
        wrong += [f"{line['name']}: output {name}" for name in differs(line)]
    for model in models:
        line = lines.get(model.name)
        if line is None:
            wrong.append(f"{model.name}: not committed")
            continue
        if operators(model.content) != line["operators"]:
            wrong.append(f"{model.name}: operators")
        same += stored_model(line) == model.content
    made = {model.name for model in models}
    wrong += [f"{name}: not made" for name in lines if name not in made and not name.startswith("coverage_")]
    print(f"{same} of {len(models)} models byte for byte, {len(lines)} models' outputs held")
    if wrong:
        raise SystemExit("differ from what this script makes: " + "; ".join(wrong))


def write(zoo):
    (ZOO / "inputs").mkdir(parents=True, exist_ok=True)
    for old in [*ZOO.glob("*.onnx.gz"), *ZOO.glob("*.out"), *ZOO.glob("inputs/*")]:
        old.unlink()
    for name, content in zoo.files.items():
        (ZOO / name).write_bytes(content)
    (ZOO / "manifest.json").write_text(zoo.manifest())
    total = sum(map(len, zoo.files.values())) + len(zoo.manifest())
    print(f"{len(zoo.lines)} models of {len({line['family'] for line in zoo.lines})} families, {total:,} bytes")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    arguments.add_argument("--coverage", type=Path, metavar="SOURCE", help="take the earlier models from here")
    arguments.add_argument("--only", metavar="WORD", help="say what the models with this word are, write nothing")
    chosen = arguments.parse_args()
    models = all_made()
    if chosen.only:
        for model in models:
            if re.search(chosen.only, model.name):
                print(model.name, len(model.content), operators(model.content), [(n, k, v.shape) for n, k, v, _ in run(model)])
    elif chosen.check:
        check(models)
    else:
        kept = [as_made(line) for name, line in committed().items() if name.startswith("coverage_")]
        zoo = Zoo()
        for model in [*models, *(coverage_models(chosen.coverage) if chosen.coverage else kept)]:
            zoo.add(model)
        write(zoo)


if __name__ == "__main__":
    main()
