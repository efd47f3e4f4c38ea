"""Reference scores of the shared models by ONNX Runtime, and their manifests.

Writes, per model of tests/data/models: NAME.ref.f32 (the score of every window of the sample's test file, stride 1,
little-endian f32: entry k belongs to row k + window - 1), NAME.top.json (what contributed to a few rows),
NAME.toml and NAME.selftest.json (so that the programs can push, run and backtest it). Where the graph's operations allow
it, batched/NAME.onnx is the same graph with a symbolic batch axis "N" (the shared ones declare one window a call). Inputs are not stored: they are the
rows of tests/data/sample/machine-3-4_test_rows1000-7500.csv.gz, each number parsed as f32.

    python reference.py            write the files
    python reference.py --check    compare with the committed ones (scores within 2e-6: kernels differ between processors)
"""

import argparse
import json
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from telemetry import (
    DATA,
    HOLD,
    SMOOTH,
    TEST_FILE,
    TEST_START,
    TRAIN_FILE,
    STEP,
    Telemetry,
    at,
    quantile,
    quoted,
    selftest,
    signal_lines,
    smooth,
    table,
    windows,
)

MODELS = DATA / "models"
# Rows whose contributions are kept: quiet, the first rows of the incident, in it, after it, the last incident.
TOP_ROWS = [100, 1742, 1743, 1745, 1800, 3000, 5014]
TOP_LENGTH = 8
SELFTEST_ROWS = [100, 1745, 3000]
# The last day of the training part sets the threshold, as it does for the demo's models.
CALIBRATION_FROM = 3000
QUANTILE, MARGIN = 0.999, 1.15
# Committed scores and scores of another processor's kernels may differ by this much.
CHECK_TOLERANCE = 2e-6


@dataclass
class Shared:
    """A shared model: its name, rows in its window, and what its manifest says of it."""

    name: str
    window: int
    architecture: str
    hyperparameters: dict
    contribution: bool = True
    batches: bool = True

    def shape(self, signals):
        return [signals] if self.window == 1 else [self.window, signals]


SHARED = [
    Shared("pca", 1, "principal components, squared residual", {"variance": "0.9", "floor": "0.02"}),
    Shared("dense_ae", 16, "dense autoencoder 608-64-12-64-608", {"epochs": "6", "tail": "4"}),
    Shared("conv_ae", 32, "convolutional autoencoder, kernels 7 and 4, stride 2", {"epochs": "6", "tail": "4"}),
    Shared("lstm_pred", 16, "LSTM(32), one step ahead", {"epochs": "6"}),
    Shared("iforest_dense", 1, "isolation forest as dense tensor operations", {"trees": "64", "samples": "64"}, False, False),
]


def session(model):
    """A session on one thread; `model` is a path or a model's bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Without it, processors that lack VNNI saturate the sums of 8-bit products, and give other numbers than those that have it.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model, inputs):
    """Scores [windows] and contributions [windows, signals] (or None); one window a call, as the graphs declare."""
    runner = session(str(MODELS / f"{model.name}.onnx"))
    outputs = ["score", "contrib"] if model.contribution else ["score"]
    results = [runner.run(outputs, {"x": window[None]}) for window in inputs]
    scores = np.array([result[0].ravel()[0] for result in results], dtype=np.float32)
    shares = np.array([result[1].ravel() for result in results]) if model.contribution else None
    return scores, shares


def batched(name):
    """The model with its batch axis declared as "N", checked against the original on the first windows."""
    graph = onnx.load(str(MODELS / f"{name}.onnx"))
    for value in [*graph.graph.input, *graph.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del graph.graph.value_info[:]
    return graph.SerializeToString(deterministic=True)


def check_batched(content, inputs, scores):
    runner = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (together,) = runner.run(["score"], {"x": inputs[:64]})
    difference = float(np.abs(together.ravel() - scores[:64]).max())
    if difference > 1e-6:
        raise SystemExit(f"64 windows together differ from one by one by {difference}")


def top(model, test, shares):
    """What contributed most to some rows: signal and share of the sum."""
    rows = []
    for row in TOP_ROWS:
        parts = shares[row - model.window + 1].astype(np.float64)
        order = np.argsort(-parts, kind="stable")[:TOP_LENGTH]
        listed = [[test.signals[i], round(float(parts[i] / parts.sum()), 5)] for i in order]
        rows.append(json.dumps({"row": row, "contributions": listed}))
    return '{"rows": [\n' + ",\n".join(rows) + "\n]}\n"


def parameters(name):
    graph = onnx.load(str(MODELS / f"{name}.onnx")).graph
    return sum(int(np.prod(tensor.dims)) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)


def manifest(model, train, threshold, quiet_share):
    outputs = [("score", '"score"')] + ([("contribution", '"contrib"')] if model.contribution else [])
    start = TEST_START - len(train.values) * STEP
    return "".join(
        [
            "# Made by tests/training/reference.py. The model is a shared one, trained on this server's normal days.\n",
            table([("name", quoted(model.name.replace("_", "-"))), ("version", 1), ("kind", '"score"')]),
            table([("selftest", quoted(f"{model.name}.selftest.json"))]),
            "\n[input]\n",
            table([("name", '"x"'), ("shape", model.shape(len(train.signals)))]),
            "\n[output]\n",
            table(outputs),
            "\n[contract]\n",
            table([("sampling", '"60s"'), ("window", model.window), ("hop", 1)]),
            "signals = [\n",
            signal_lines(train.signals),
            "]\n\n[calibration]\n",
            table([("threshold", threshold), ("smooth", SMOOTH), ("hold", HOLD)]),
            "\n[limits]\n",
            table([("memory", '"256MiB"'), ("load", '"5s"'), ("row", '"10ms"')]),
            "\n[lineage]\n",
            table(
                [
                    ("architecture", quoted(model.architecture)),
                    ("parameters", parameters(model.name)),
                    ("trained", quoted(at(TEST_START, 0))),
                    ("author", '"Vedette training scripts"'),
                    ("reason", '"reference model for tests and benchmarks"'),
                ]
            ),
            "\n[lineage.hyperparameters]\n",
            table([(key, quoted(value)) for key, value in model.hyperparameters.items()]),
            "\n[[lineage.data]]\n",
            table(
                [
                    ("name", quoted(TRAIN_FILE.name)),
                    ("digest", quoted(train.digest())),
                    ("from", quoted(at(start, 0))),
                    ("to", quoted(at(start, len(train.values)))),
                    ("rows", len(train.values)),
                ]
            ),
            "\n[lineage.metrics]\n",
            table([("calibration_rows_over_threshold", quiet_share)]),
        ]
    )


def build(model, train, test):
    """All files of a model: path -> bytes."""
    inputs = windows(test.values, model.window)
    scores, shares = run(model, inputs)
    calibration, _ = run(model, windows(train.values, model.window)[CALIBRATION_FROM:])
    calibration = smooth(calibration.astype(np.float64))
    threshold = round(quantile(calibration, QUANTILE) * MARGIN, 4)
    chosen = [row - model.window + 1 for row in SELFTEST_ROWS]
    files = {
        f"{model.name}.ref.f32": scores.astype("<f4").tobytes(),
        f"{model.name}.selftest.json": selftest(inputs[chosen], scores[chosen], 1e-5).encode(),
        f"{model.name}.toml": manifest(model, train, threshold, round(float((calibration > threshold).mean()), 5)).encode(),
    }
    if shares is not None:
        files[f"{model.name}.top.json"] = top(model, test, shares).encode()
    if model.batches:
        files[f"batched/{model.name}.onnx"] = batched(model.name)
        check_batched(files[f"batched/{model.name}.onnx"], inputs, scores)
    print(f"{model.name:14} {len(scores)} windows, scores {scores.min():.4f}..{scores.max():.4f}, threshold {threshold}")
    return files


def same(path, expected):
    if not path.exists():
        return False
    if path.suffix != ".f32":
        return path.read_bytes() == expected
    have = np.frombuffer(path.read_bytes(), dtype="<f4")
    want = np.frombuffer(expected, dtype="<f4")
    return have.shape == want.shape and float(np.abs(have - want).max()) <= CHECK_TOLERANCE


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = arguments.parse_args().check
    train, test = Telemetry(TRAIN_FILE), Telemetry(TEST_FILE)
    wrong = []
    (MODELS / "batched").mkdir(exist_ok=True)
    for model in SHARED:
        for name, content in build(model, train, test).items():
            if not check:
                (MODELS / name).write_bytes(content)
            elif not same(MODELS / name, content):
                wrong.append(name)
    if wrong:
        raise SystemExit("differ from what this script makes: " + ", ".join(wrong))


if __name__ == "__main__":
    main()
