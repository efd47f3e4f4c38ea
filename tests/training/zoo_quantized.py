"""Dense, convolutional and recurrent networks made small by ONNX Runtime's own tools: int8 in its three forms, and half floats."""

import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

import zoo_torch
from zoo_model import TRAIN, Made, waves

EXPORTER = "onnxruntime.quantization"


class Rows(CalibrationDataReader):
    """The rows that set the ranges."""

    def __init__(self, rows):
        self.left = iter([{"x": rows[start : start + 32]} for start in range(0, len(rows), 32)])

    def get_next(self):
        return next(self.left, None)


def quantized(folder, source, calibration, kind, activations, per_channel):
    target = folder / "quantized.onnx"
    quantize_static(
        folder / "prepared.onnx",
        target,
        Rows(calibration),
        quant_format=kind,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    return target.read_bytes()


def prepare(folder, content):
    """Shapes inferred and what can be merged merged, as the tools ask for."""
    (folder / "source.onnx").write_bytes(content)
    quant_pre_process(folder / "source.onnx", folder / "prepared.onnx")


def static_models(folder, source, calibration, rows):
    for form, kind in [("qdq", QuantFormat.QDQ), ("qoperator", QuantFormat.QOperator)]:
        for width, activations in [("s8", QuantType.QInt8), ("u8", QuantType.QUInt8)]:
            for suffix, per_channel in [("", False), ("_per_channel", True)]:
                content = quantized(folder, source, calibration, kind, activations, per_channel)
                name = f"{source.name}_int8_{form}_{width}{suffix}"
                yield Made(name, f"int8 {form}, {source.family}", EXPORTER, content, {"x": rows})


def dynamic_model(folder, source, rows):
    target = folder / "quantized.onnx"
    quantize_dynamic(folder / "prepared.onnx", target, weight_type=QuantType.QInt8)
    name, family = f"{source.name}_int8_dynamic", f"int8 dynamic, {source.family}"
    return Made(name, family, EXPORTER, target.read_bytes(), {"x": rows}, "one")


def half_model(folder, source, rows):
    model = convert_float_to_float16(onnx.load(folder / "prepared.onnx"), keep_io_types=True)
    name, family = f"{source.name}_f16", f"half floats, {source.family}"
    return Made(name, family, "onnxruntime.transformers", model.SerializeToString(deterministic=True), {"x": rows})


def models(sources):
    """`sources` are zoo_torch's models."""
    found = {made.name: made for made in sources}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dense, conv, lstm = found["dense_relu"], found["conv_autoencoder"], found["lstm_small"]
        prepare(folder, dense.content)
        yield from static_models(folder, dense, TRAIN[:256], dense.inputs["x"])
        yield dynamic_model(folder, dense, dense.inputs["x"])
        yield half_model(folder, dense, dense.inputs["x"])
        prepare(folder, conv.content)
        channels = waves("train channels", 64, 32).transpose(0, 2, 1).copy()
        for form, kind in [("qdq", QuantFormat.QDQ), ("qoperator", QuantFormat.QOperator)]:
            content = quantized(folder, conv, channels, kind, QuantType.QUInt8, True)
            yield Made(f"conv_autoencoder_int8_{form}", f"int8 {form}, {conv.family}", EXPORTER, content, conv.inputs)
        prepare(folder, lstm.content)
        yield dynamic_model(folder, lstm, lstm.inputs["x"])
