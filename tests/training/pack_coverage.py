"""Picks one model per family that the engine must run, and stores what ONNX Runtime gives for it.

    python pack_coverage.py SOURCE

SOURCE holds NAME.onnx, NAME.in.f32 and manifest.json with the input's shape. Per model, tests/data/coverage gets NAME.onnx,
NAME.in.f32 and NAME.OUTPUT.f32 (the first rows, all run as one batch, little-endian f32) and a line of manifest.json.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime

from telemetry import DATA

COVERAGE = DATA / "coverage"
ROWS = 32

# Name, family, outputs that must be right. Labels of tree classifiers are left out: the engine is known to get them wrong,
# and no manifest names them.
PICKED = [
    ("dense_ae_ts", "dense autoencoder", ["y"]),
    ("dense_ae_dy", "dense autoencoder, symbolic shapes in the file", ["linear_3"]),
    ("dense_ae_score_ts", "dense autoencoder with its score", ["y"]),
    ("dense_ae_big_ts", "dense autoencoder, wide", ["y"]),
    ("conv_ae_ts", "convolutional autoencoder", ["y"]),
    ("conv_ae_dy", "convolutional autoencoder, symbolic shapes in the file", ["convolution_1"]),
    ("causal_conv_ts", "causal dilated convolution", ["y"]),
    ("gru_ts", "GRU forecaster", ["y"]),
    ("gru_dy", "GRU forecaster, symbolic shapes in the file", ["linear"]),
    ("lstm_ae_mul", "LSTM autoencoder, repeated by multiplication", ["y"]),
    ("lstm_ae_stack", "LSTM autoencoder, repeated by stacking", ["y"]),
    ("transformer_ts", "transformer encoder", ["y"]),
    ("transformer_dy", "transformer encoder, symbolic shapes in the file", ["linear_9"]),
    ("kmeans", "k-means distances", ["scores"]),
    ("lof", "local outlier factor", ["scores"]),
    ("logreg_nozip", "logistic regression", ["probabilities"]),
    ("rf_nozip", "random forest", ["probabilities"]),
    ("lgbm_nozip", "gradient boosting", ["probabilities"]),
    ("gbc_nozip_bv1", "gradient boosting, base value per class", ["probabilities"]),
    ("dense_int8_qdq_s8", "int8 quantised", ["y"]),
    ("dense_int8_qdq_u8_pc", "int8 quantised per channel", ["y"]),
    ("dense_int8_dyn", "int8 quantised at run time, over the whole batch", ["y"]),
]


def store(source, name, outputs, shape):
    """Copies the model, cuts its inputs, runs them; gives the outputs' entries of the manifest."""
    shutil.copyfile(source / f"{name}.onnx", COVERAGE / f"{name}.onnx")
    inputs = np.fromfile(source / f"{name}.in.f32", dtype="<f4").reshape(shape)[:ROWS]
    inputs.tofile(COVERAGE / f"{name}.in.f32")
    runner = onnxruntime.InferenceSession(str(COVERAGE / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    entries = []
    for output, value in zip(outputs, runner.run(outputs, {"x": inputs})):
        file = f"{name}.{output}.f32"
        value.astype("<f4").tofile(COVERAGE / file)
        entries.append({"name": output, "shape": list(value.shape), "file": file})
    return list(inputs.shape), entries


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("source", type=Path)
    source = arguments.parse_args().source
    shapes = json.loads((source / "manifest.json").read_text())
    lines = []
    for name, family, outputs in PICKED:
        shape, entries = store(source, name, outputs, shapes[name]["in_shape"])
        line = {"name": name, "family": family, "input": {"name": "x", "shape": shape, "file": f"{name}.in.f32"}}
        lines.append(json.dumps(line | {"outputs": entries}))
    (COVERAGE / "manifest.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
