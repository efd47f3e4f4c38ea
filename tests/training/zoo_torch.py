"""PyTorch modules through both of its exporters: the one that traces a script ("ts") and the newer one ("dynamo").

The weights are drawn, not trained: what is held is the arithmetic, and a drawn network uses all of it.
"""

import io
import logging
import warnings

import numpy as np
import torch
from torch import nn

from zoo_model import SIGNALS, WINDOW, Made, asked, generator, waves, without_metadata

SCRIPT, DYNAMO = "torch.onnx (script)", "torch.onnx (dynamo)"
OPSET = 17
HIDDEN = 6


class Lambda(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Scored(nn.Module):
    """An autoencoder that gives its error per row, and the reconstruction."""

    def __init__(self, autoencoder, flat=False):
        super().__init__()
        self.autoencoder, self.flat = autoencoder, flat

    def forward(self, x):
        seen = x.flatten(1) if self.flat else x
        again = self.autoencoder(seen)
        return (again - seen).pow(2).flatten(1).mean(-1), again


class Residual(nn.Module):
    """Adds what its layers give to what they saw."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return torch.relu(x + self.layers(x))


class Variational(nn.Module):
    """A variational autoencoder as it is deployed: the mean in the place of a draw, and the divergence as a second output."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(SIGNALS, 16), nn.ReLU())
        self.mean, self.spread = nn.Linear(16, 3), nn.Linear(16, 3)
        self.decoder = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, SIGNALS))

    def forward(self, x):
        hidden = self.encoder(x)
        mean, spread = self.mean(hidden), self.spread(hidden)
        return self.decoder(mean), -0.5 * torch.sum(1 + spread - mean.pow(2) - spread.exp(), dim=1)


class Described(nn.Module):
    """Distance to a centre in a network's last layer (deep one-class description)."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(SIGNALS, 12, bias=False), nn.LeakyReLU(0.1), nn.Linear(12, 4, bias=False))
        self.centre = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return torch.linalg.vector_norm(self.net(x) - self.centre, dim=1)


class Recurrent(nn.Module):
    """A recurrent layer and a dense one on its last state: the next row of a window."""

    def __init__(self, layer, width):
        super().__init__()
        self.layer, self.out = layer, nn.Linear(width, SIGNALS)

    def forward(self, x):
        states, _ = self.layer(x)
        return self.out(states[:, -1])


class RecurrentAutoencoder(nn.Module):
    """Encoder and decoder; the last state is repeated by `repeat` over the window."""

    def __init__(self, repeat):
        super().__init__()
        self.repeat = repeat
        self.encoder = nn.LSTM(SIGNALS, HIDDEN, batch_first=True)
        self.decoder = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, SIGNALS)

    def forward(self, x):
        _, (state, _) = self.encoder(x)
        states, _ = self.decoder(self.repeat(state[-1]))
        return self.out(states)


class Causal(nn.Module):
    """A residual block of causal dilated convolutions, padded on the left only."""

    def __init__(self, before, after, dilation):
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.one, self.two = nn.Conv1d(before, after, 3, dilation=dilation), nn.Conv1d(after, after, 3, dilation=dilation)
        self.side = nn.Conv1d(before, after, 1)

    def forward(self, x):
        inner = torch.relu(self.one(self.pad(x)))
        return torch.relu(self.side(x) + torch.relu(self.two(self.pad(inner))))


class Attending(nn.Module):
    """A transformer's encoder over a window with learnt places."""

    def __init__(self, activation, first=False):
        super().__init__()
        self.into, self.out = nn.Linear(SIGNALS, 16), nn.Linear(16, SIGNALS)
        self.place = nn.Parameter(torch.randn(1, WINDOW, 16) * 0.1)
        layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, activation, batch_first=True, norm_first=first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x):
        return self.out(self.encoder(self.into(x) + self.place))


class Decomposed(nn.Module):
    """Trend and rest by a moving mean, a dense layer each over time."""

    def __init__(self):
        super().__init__()
        self.mean = nn.AvgPool1d(5, stride=1, padding=2, count_include_pad=False)
        self.trend, self.rest = nn.Linear(WINDOW, 1), nn.Linear(WINDOW, 1)

    def forward(self, x):
        x = x.transpose(1, 2)
        trend = self.mean(x)
        return (self.trend(trend) + self.rest(x - trend)).squeeze(-1)


class Normalised(nn.Module):
    """Each window scaled by its own mean and deviation, and back."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(WINDOW, WINDOW)

    def forward(self, x):
        mean, deviation = x.mean(1, keepdim=True), torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)
        inner = ((x - mean) / deviation).transpose(1, 2)
        return self.net(inner).transpose(1, 2) * deviation + mean


def dense(activation, middle=3):
    layers = [nn.Linear(SIGNALS, 12), activation, nn.Linear(12, middle), activation, nn.Linear(middle, 12), activation]
    return nn.Sequential(*layers, nn.Linear(12, SIGNALS))


def statistics(module, name):
    """Batch norms as after training: means and variances that are not 0 and 1."""
    random = torch.Generator().manual_seed(len(name))
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm, nn.GroupNorm)) and layer.weight is not None:
            layer.weight.data.uniform_(0.5, 1.5, generator=random)
            layer.bias.data.normal_(0, 0.3, generator=random)
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.normal_(0, 0.5, generator=random)
            layer.running_var.uniform_(0.5, 2.0, generator=random)


def script(module, rows, batch):
    """The tracing exporter's bytes."""
    target, axes = io.BytesIO(), None if batch == "one" else {0: "N"}
    outputs = ["y", "z"][: 1 + isinstance(module(rows[:1]), tuple)]
    dynamic = {name: axes for name in ["x", *outputs]} if axes else None
    torch.onnx.export(
        module, (rows[:1],), target, dynamo=False, opset_version=OPSET, input_names=["x"], output_names=outputs, dynamic_axes=dynamic
    )
    return target.getvalue()


def dynamo(module, rows):
    """The newer exporter's bytes."""
    shapes = ({0: torch.export.Dim("N", min=1, max=4096)},)
    program = torch.onnx.export(module, (rows[:2],), dynamo=True, input_names=["x"], dynamic_shapes=shapes, verbose=False)
    return without_metadata(program.model_proto).SerializeToString(deterministic=True)


class Zoo:
    """Exports one module after the other."""

    def __init__(self):
        self.made = []

    def add(self, name, family, make, rows=None, exporters=("script", "dynamo"), batch="any"):
        """`make` builds the module, after the random numbers were set by the name."""
        rows = asked() if rows is None else rows
        torch.manual_seed(int(generator(name).integers(1 << 31)))
        module = make().eval()
        statistics(module, name)
        given = torch.tensor(rows)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if "script" in exporters:
                self.made.append(Made(name, family, SCRIPT, script(module, given, batch), {"x": rows}, batch))
            if "dynamo" in exporters:
                self.made.append(Made(f"{name}_dynamo", family, DYNAMO, dynamo(module, given), {"x": rows}, batch))


ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "selu": nn.SELU,
    "celu": lambda: nn.CELU(0.7),
    "prelu": nn.PReLU,
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "mish": nn.Mish,
    "softsign": nn.Softsign,
}
# The ones that people use most; the others go through one exporter.
COMMON = ("relu", "leaky", "elu", "sigmoid", "tanh", "gelu", "silu", "softplus")


def dense_models(zoo):
    for name, activation in ACTIVATIONS.items():
        exporters = ("script", "dynamo") if name in COMMON else ("script",)
        zoo.add(f"dense_{name}", "dense autoencoder", lambda: dense(activation()), exporters=exporters)
    zoo.add("dense_score", "dense autoencoder with its score", lambda: Scored(dense(nn.ReLU())))
    window = lambda: Scored(nn.Sequential(nn.Linear(WINDOW * SIGNALS, 10), nn.Tanh(), nn.Linear(10, WINDOW * SIGNALS)), True)
    zoo.add("dense_window_score", "dense autoencoder with its score", window, waves("asked", 24))
    zoo.add("dense_fixed_batch", "dense autoencoder, batch fixed", lambda: dense(nn.ReLU()), None, ("script",), "one")
    normed = lambda norm: nn.Sequential(nn.Linear(SIGNALS, 12), norm(12), nn.ReLU(), nn.Linear(12, SIGNALS))
    zoo.add("dense_batch_norm", "dense autoencoder, normalised", lambda: normed(nn.BatchNorm1d))
    first = lambda: nn.Sequential(nn.BatchNorm1d(SIGNALS), nn.ReLU(), nn.Linear(SIGNALS, SIGNALS))
    zoo.add("dense_batch_norm_first", "dense autoencoder, normalised", first)
    zoo.add("dense_layer_norm", "dense autoencoder, normalised", lambda: normed(nn.LayerNorm))
    zoo.add("dense_group_norm", "dense autoencoder, normalised", lambda: normed(lambda n: nn.GroupNorm(3, n)), exporters=("script",))
    block = lambda: Residual(nn.Linear(SIGNALS, 12), nn.ReLU(), nn.Linear(12, SIGNALS))
    zoo.add("dense_residual", "dense autoencoder, residual", lambda: nn.Sequential(block(), block(), nn.Linear(SIGNALS, SIGNALS)))
    zoo.add("variational", "variational autoencoder", Variational)
    zoo.add("deep_description", "deep one-class description", Described)
    classifier = lambda last: nn.Sequential(nn.Linear(SIGNALS, 10), nn.ReLU(), nn.Dropout(0.2), nn.Linear(10, 4), last)
    zoo.add("dense_softmax", "dense classifier", lambda: classifier(nn.Softmax(dim=1)))
    zoo.add("dense_log_softmax", "dense classifier", lambda: classifier(nn.LogSoftmax(dim=1)), exporters=("script",))


def recurrent_models(zoo):
    windows = waves("asked", 24)
    one, both = {"batch_first": True}, {"batch_first": True, "bidirectional": True}
    for name, layer in [("gru", nn.GRU), ("lstm", nn.LSTM), ("rnn", nn.RNN)]:
        family = "recurrent forecaster"
        exporters = ("script", "dynamo") if name != "rnn" else ("script",)
        zoo.add(f"{name}_small", family, lambda: Recurrent(layer(SIGNALS, HIDDEN, **one), HIDDEN), windows, exporters)
        stacked = lambda: Recurrent(layer(SIGNALS, HIDDEN, 2, **one), HIDDEN)
        zoo.add(f"{name}_stacked", family, stacked, windows, exporters)
        zoo.add(f"{name}_bidirectional", family, lambda: Recurrent(layer(SIGNALS, HIDDEN, **both), 2 * HIDDEN), windows, exporters)
    repeats = {
        "ones": lambda state: state.unsqueeze(1) * torch.ones(1, WINDOW, 1),
        "stack": lambda state: torch.stack([state] * WINDOW, dim=1),
        "expand": lambda state: state.unsqueeze(1).expand(-1, WINDOW, -1),
        "repeat": lambda state: state.unsqueeze(1).repeat(1, WINDOW, 1),
    }
    for name, repeat in repeats.items():
        zoo.add(f"lstm_autoencoder_{name}", "recurrent autoencoder", lambda: RecurrentAutoencoder(repeat), windows)
    scored = lambda: Scored(RecurrentAutoencoder(repeats["ones"]))
    zoo.add("lstm_autoencoder_score", "recurrent autoencoder", scored, windows)


def convolutional_models(zoo):
    channels = np.ascontiguousarray(waves("asked", 24, 32).transpose(0, 2, 1))
    halves = lambda: nn.Sequential(
        nn.Conv1d(SIGNALS, 6, 5, stride=2, padding=2),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Conv1d(6, 4, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose1d(6, SIGNALS, 4, stride=2, padding=1),
    )
    zoo.add("conv_autoencoder", "convolutional autoencoder", halves, channels)
    zoo.add("conv_autoencoder_score", "convolutional autoencoder", lambda: Scored(halves()), channels)
    upsampled = lambda: nn.Sequential(
        nn.Conv1d(SIGNALS, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv1d(6, SIGNALS, 3, padding=1),
    )
    zoo.add("conv_upsample", "convolutional autoencoder", upsampled, channels, ("script",))
    zoo.add("causal_conv", "causal convolution", lambda: nn.Sequential(Causal(SIGNALS, 6, 1), Causal(6, 6, 2), Causal(6, 6, 4)), channels)
    pooled = lambda: nn.Sequential(
        nn.Conv1d(SIGNALS, SIGNALS, 3, groups=SIGNALS, padding=1),
        nn.Conv1d(SIGNALS, 6, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )
    zoo.add("conv_pooled", "convolutional classifier", pooled, channels)


def attention_models(zoo):
    windows = waves("asked", 24)
    zoo.add("transformer_relu", "transformer encoder", lambda: Attending("relu"), windows)
    zoo.add("transformer_gelu_first", "transformer encoder", lambda: Attending("gelu", True), windows)
    zoo.add("decomposed_linear", "linear forecaster", Decomposed, windows)
    zoo.add("normalised_window", "linear forecaster", Normalised, windows)


def models():
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    # The fused attention has no ONNX counterpart.
    torch.backends.mha.set_fastpath_enabled(False)
    zoo = Zoo()
    for part in (dense_models, recurrent_models, convolutional_models, attention_models):
        part(zoo)
    return zoo.made
