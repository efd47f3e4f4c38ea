"""What the scripts of this folder share: reading telemetry, the device's arithmetic, and writing manifests.

Nothing here depends on the platform's linear algebra: sums that decide a committed number go through math.fsum.
"""

import csv
import gzip
import hashlib
import json
import math
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent.parent / "data"
TRAIN_FILE = DATA / "sample" / "machine-3-4_train_3d.csv.gz"
TEST_FILE = DATA / "sample" / "machine-3-4_test_rows1000-7500.csv.gz"

# The data set has no time column: one row a minute. The test part is replayed from this moment on; the training part is
# laid right before it. Both are constants of ours, not measured times.
STEP = timedelta(minutes=1)
TEST_START = datetime(2026, 9, 1, tzinfo=timezone.utc)

# Rows over the threshold in a row before an alarm, and rows the score is smoothed over (manifest: hold, smooth).
HOLD = 3
SMOOTH = 5

# An alarm this many rows after the end of an incident still counts as having found it.
TOLERANCE = 10


class Telemetry:
    """A file of telemetry: names of its signals, values as f32 [rows, signals], labels (0 or 1) or None."""

    def __init__(self, path):
        self.path = path
        with gzip.open(path, "rt", newline="") as text:
            rows = list(csv.reader(text))
        header, body = rows[0], rows[1:]
        labelled = header[-1] == "label"
        width = len(header) - 1 if labelled else len(header)
        self.signals = header[:width]
        wide = np.array([[float(cell) for cell in row[:width]] for row in body], dtype=np.float64)
        refuse_double_rounding(wide)
        self.values = wide.astype(np.float32)
        self.labels = np.array([int(float(row[width])) for row in body]) if labelled else None

    def digest(self):
        """SHA-256 of the file's bytes, as a manifest writes it."""
        return digest_of(self.path.read_bytes())


def refuse_double_rounding(wide):
    """Stop when a value could round differently on its way text -> f64 -> f32 than text -> f32 (as Rust parses it).

    The two differ only where the f64 lies exactly between two f32, that is, its low 29 bits are 1 followed by zeros.
    """
    middle = (wide.view(np.uint64) & np.uint64(0x1FFFFFFF)) == np.uint64(0x10000000)
    if middle.any():
        raise SystemExit(f"{int(middle.sum())} values lie between two f32: parse the text as f32 directly")


def digest_of(data):
    """SHA-256 as text, `sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def windows(values, length):
    """Every window of `length` rows, [rows - length + 1, length, signals]; the one-row models take [rows, signals]."""
    if length == 1:
        return values
    view = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1))


def smooth(scores, length=SMOOTH):
    """The device's smoothing: mean of the last `length` row scores (fewer at the start), after the logarithm."""
    recent = [scores[max(0, row + 1 - length) : row + 1] for row in range(len(scores))]
    return np.array([math.fsum(part) / len(part) for part in recent])


def alarms(smoothed, threshold, hold=HOLD):
    """Per row: is it over the threshold, and were the `hold` - 1 rows before it too?"""
    over = smoothed > threshold
    alarmed = over.copy()
    for back in range(1, hold):
        alarmed[back:] &= over[:-back]
        alarmed[:back] = False
    return alarmed


def spans(flags):
    """Runs of true values as (first, behind the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(int), [0]))))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]


def quantile(values, share):
    """The linear-interpolated quantile, without the platform's partial sorts."""
    ordered = sorted(float(value) for value in values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def at(start, row):
    """Time of a row, as a manifest writes it."""
    return (start + row * STEP).strftime("%Y-%m-%dT%H:%M:%SZ")


def selftest(inputs, scores, tolerance):
    """The self-test file beside a manifest: raw windows, row-major, and the row score each must give."""
    vectors = [
        # The shortest text of an f32: the few decimals that the data set gives.
        {"window": [float(str(x)) for x in window.ravel()], "score": round(float(score), 6)}
        for window, score in zip(inputs, scores)
    ]
    return json.dumps({"tolerance": tolerance, "vectors": vectors}, separators=(",", ":")) + "\n"


def quoted(text):
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False)


def table(pairs):
    """`key = value` lines; values are TOML already."""
    return "".join(f"{key} = {value}\n" for key, value in pairs)


def signal_lines(signals):
    """The contract's signals: all raw (the graph scales), dimensionless because the data set's authors scaled to 0..1."""
    return "".join(f'  {{ name = {quoted(name)}, unit = "1" }},\n' for name in signals)
