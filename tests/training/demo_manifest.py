"""The demo's manifests as a data scientist writes them (TOML)."""

from telemetry import HOLD, SMOOTH, at, quoted, signal_lines, table


def lineage_of(job, found, hyperparameters, metrics):
    """The [lineage] tables of a version."""
    size, kept = found.components.shape
    about = [
        ("architecture", quoted(f"principal components, {size} signals to {kept}, squared residual per signal")),
        # center, scale, mean residual and components
        ("parameters", 3 * size + size * kept),
        ("trained", quoted(at(job.start, job.behind))),
        ("author", '"tests/training/train_demo.py"'),
        ("reason", quoted(job.reason)),
    ]
    if job.parent is not None:
        about.append(("parent", job.parent))
    data = [
        ("name", quoted(job.source.path.name)),
        ("digest", quoted(job.source.digest())),
        ("from", quoted(at(job.start, job.first))),
        ("to", quoted(at(job.start, job.behind))),
        ("rows", len(job.rows)),
    ]
    return (
        "\n[lineage]\n"
        + table(about)
        + "\n[lineage.hyperparameters]\n"
        + table([(key, quoted(str(value))) for key, value in hyperparameters.items()])
        + "\n[[lineage.data]]\n"
        + table(data)
        + "\n[lineage.metrics]\n"
        + table(metrics.items())
    )


def manifest(signals, version, threshold, lineage):
    """A whole manifest; `lineage` comes from lineage_of."""
    return (
        "# Made by tests/training/train_demo.py.\n"
        + table([("name", '"server-pca"'), ("version", version), ("kind", '"score"'), ("selftest", '"selftest.json"')])
        + "\n[input]\n"
        + table([("name", '"x"'), ("shape", [len(signals)])])
        + "\n[output]\n"
        + table([("score", '"score"'), ("contribution", '"contrib"')])
        + "\n[contract]\n"
        + table([("sampling", '"60s"'), ("window", 1), ("hop", 1)])
        + "# The graph scales. All units are 1: the data set's authors scaled each metric to 0..1.\n"
        + f"signals = [\n{signal_lines(signals)}]\n"
        + "\n[calibration]\n"
        + "# Over the mean of `smooth` row scores, `hold` rows in a row.\n"
        + table([("threshold", threshold), ("smooth", SMOOTH), ("hold", HOLD)])
        + "\n[limits]\n"
        + table([("memory", '"256MiB"'), ("load", '"5s"'), ("row", '"10ms"')])
        + lineage
    )
