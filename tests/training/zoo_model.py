"""One model of the zoo as its maker hands it over, and the telemetry that all of them are made from."""

from dataclasses import dataclass

import numpy as np
import onnx

SIGNALS = 8
ROWS = 24
# Rows of a window, for the models that see several rows at once.
WINDOW = 16


@dataclass
class Made:
    """A model, what it is, and the rows that are put to it.

    `batch` says how rows go together: "any" number of them (each row's result is its own), "one" by one because the graph fixes
    its batch or scales by the largest number of it, or the "whole" of them because a row's result can't be told from the others'.
    """

    name: str
    family: str
    exporter: str
    content: bytes
    inputs: dict
    batch: str = "any"


def generator(name):
    """Random numbers of a name: adding a model changes no other."""
    return np.random.default_rng(np.frombuffer(name.encode(), dtype=np.uint8))


# Six hidden causes move all signals: what telemetry looks like to a model of reconstruction.
MIXING = generator("mixing").normal(size=(6, SIGNALS))


def telemetry(name, rows):
    """Correlated signals, f32 [rows, SIGNALS]."""
    random = generator(name)
    causes = random.normal(size=(rows, 6))
    return (causes @ MIXING * 0.5 + 0.2 * random.normal(size=(rows, SIGNALS))).astype(np.float32)


def waves(name, rows, length=WINDOW):
    """Windows of noisy sines, f32 [rows, length, SIGNALS]."""
    random = generator(name)
    phase = random.uniform(0, 2 * np.pi, size=(rows, 1, SIGNALS))
    speed = random.uniform(0.1, 0.6, size=(rows, 1, SIGNALS))
    at = np.arange(length).reshape(1, length, 1)
    return (np.sin(speed * at + phase) + 0.1 * random.normal(size=(rows, length, SIGNALS))).astype(np.float32)


TRAIN = telemetry("train", 600)
LOAD = np.abs(TRAIN).max(axis=1)
# An alarm in about one row of six, three grades of it, and a quantity to predict.
BINARY = (LOAD > np.quantile(LOAD, 0.85)).astype(np.int64)
GRADES = np.digitize(LOAD, np.quantile(LOAD, [0.5, 0.8])).astype(np.int64)
WORDS = np.array(["quiet", "busy", "alarm"])[GRADES]
QUANTITY = (TRAIN[:, 0] * TRAIN[:, 1] + np.sin(TRAIN[:, 2]) + 0.3 * TRAIN[:, 3]).astype(np.float32)
TRAIN_WINDOWS = waves("train windows", 192)


def asked():
    """The rows that are put to a model: telemetry, one of zeros, and one far outside."""
    rows = telemetry("asked", ROWS)
    rows[-2] = 0.0
    rows[-1] *= 10.0
    return rows


def holed(rows, name):
    """Rows with one number in eight missing; the first row whole, the last all missing."""
    rows = rows.copy()
    holes = generator(name).random(rows.shape) < 0.125
    holes[0] = False
    rows[holes] = np.nan
    return rows


def positive(rows):
    """Whole numbers from 0 up, as counters have them."""
    return np.floor(np.abs(rows) * 3).astype(np.float32)


def on_thresholds(content, rows):
    """Puts thresholds of the model's first trees into the last rows: which way does a value go that equals one?"""
    rows = rows.copy()
    nodes = [node for node in onnx.load_from_string(content).graph.node if node.op_type.startswith("TreeEnsemble")]
    pairs = []
    for node in nodes[:8]:
        told = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if "nodes_values" in told and "nodes_featureids" in told and "nodes_modes" in told:
            every = zip(told["nodes_featureids"], told["nodes_values"], told["nodes_modes"])
            pairs += [(feature, value) for feature, value, mode in every if mode != b"LEAF"][:12]
    for place, (feature, value) in enumerate(pairs):
        row, first = place % 8, len(rows) - 10
        if feature < rows.shape[1]:
            rows[first + row, feature] = value
    return rows


def without_metadata(model):
    """Without the exporter's notes, which name paths of the machine and are most of the bytes."""
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for part in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        part.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    return model
