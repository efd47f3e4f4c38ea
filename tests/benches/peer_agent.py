"""The agent that people write in Python: telemetry out of a file, a window, an ONNX score, anomalies to MQTT.

    python peer_agent.py MODEL ROWS BROKER [--window 16] [--together 1] [--seconds 10] [--threshold 3.5]

MODEL takes [windows, window, signals], or [rows, signals] where the window is 1; its first output is the score, or what an
autoencoder makes of its input. ROWS is a CSV
file (.gz or not) with a header, read again and again; BROKER is HOST:PORT. Prints one line of JSON: rows a second of wall time and
of one core, and how long a row took from text to decision (p50 and p99, us). What it does is what the benchmarked agent does
with the same settings, but for the journal, signatures and the built-in detector, which it does not have.
"""

import argparse
import csv
import gzip
import json
import time
from collections import deque

import numpy as np
import onnxruntime
import paho.mqtt.client as mqtt

SMOOTH, HOLD = 5, 3
TOPIC = "peer/anomalies"


def rows_of(path):
    """The file's rows as text, for ever."""
    while True:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", newline="") as text:
            reader = csv.reader(text)
            next(reader)
            yield from reader


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Agent:
    """Window, score, decision."""

    def __init__(self, chosen, client):
        self.session, self.client, self.chosen = session(chosen.model), client, chosen
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[0].name
        self.window, self.scores = deque(maxlen=chosen.window), deque(maxlen=SMOOTH)
        self.over, self.row, self.published = 0, 0, 0

    def take(self, texts):
        """Scores rows of text together."""
        windows = []
        for text in texts:
            self.window.append(np.asarray(text, dtype=np.float32))
            if len(self.window) == self.chosen.window:
                windows.append(self.window[0] if self.chosen.window == 1 else np.stack(self.window))
        if windows:
            seen = np.stack(windows)
            (scores,) = self.session.run([self.output], {self.input: seen})
            if scores.shape == seen.shape:
                scores = np.log1p(np.mean((scores - seen) ** 2, axis=-1))
            for score in scores.ravel():
                self.decide(float(score))

    def decide(self, score):
        self.row += 1
        self.scores.append(score)
        smoothed = sum(self.scores) / len(self.scores)
        self.over = self.over + 1 if smoothed > self.chosen.threshold else 0
        if self.over >= HOLD:
            anomaly = {"row": self.row, "score": smoothed, "values": self.window[-1].tolist()}
            self.client.publish(TOPIC, json.dumps(anomaly), qos=1)
            self.published += 1


def measure(agent, rows, chosen):
    """Runs for so many seconds; times of the calls, ns, with rows taken and seconds of wall time and processor."""
    taken, together = [], chosen.together
    start, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < chosen.seconds:
        begin = time.perf_counter_ns()
        agent.take([next(rows) for _ in range(together)])
        taken.append(time.perf_counter_ns() - begin)
    return np.array(taken), time.perf_counter() - start, time.process_time() - cpu


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model")
    arguments.add_argument("rows")
    arguments.add_argument("broker")
    arguments.add_argument("--window", type=int, default=16)
    arguments.add_argument("--together", type=int, default=1)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--threshold", type=float, default=3.5)
    chosen = arguments.parse_args()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    host, port = chosen.broker.rsplit(":", 1)
    client.connect(host, int(port))
    client.loop_start()
    agent, rows = Agent(chosen, client), rows_of(chosen.rows)
    for _ in range(200):
        agent.take([next(rows)])
    taken, wall_s, cpu_s = measure(agent, rows, chosen)
    client.loop_stop()
    count = len(taken) * chosen.together
    p50, p99 = np.percentile(taken, [50, 99]) / 1000
    figures = {"rows_s": count / wall_s, "rows_core_s": count / cpu_s, "p50_us": p50, "p99_us": p99}
    print(json.dumps(figures | {"published": agent.published}))


if __name__ == "__main__":
    main()
