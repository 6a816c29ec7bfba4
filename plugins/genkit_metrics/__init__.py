"""First-party evaluators: likelihoods, distances between samples and data, coverage, and pictures."""

from genkit import hookimpl

EVALUATORS = {
    "bits_per_dim": "BitsPerDim",
    "density": "Density",
    "frechet": "Frechet",
    "interpolation": "Interpolation",
    "kernel": "Kernel",
    "manifold": "Manifold",
    "mode_coverage": "ModeCoverage",
    "precision_recall": "PrecisionRecall",
    "reconstructions": "Reconstructions",
    "sample_grid": "SampleGrid",
    "scatter": "Scatter",
    "temperature_grid": "TemperatureGrid",
}


@hookimpl
def register_components(register):
    """Registers the evaluators."""
    for name, cls in EVALUATORS.items():
        register(name, f"genkit_metrics.{name}:{cls}", kind="evaluator")
