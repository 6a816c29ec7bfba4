"""First-party evaluators: likelihoods and pictures."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the evaluators."""
    register("bits_per_dim", "genkit_metrics.bits_per_dim:BitsPerDim", kind="evaluator")
    register("manifold", "genkit_metrics.manifold:Manifold", kind="evaluator")
    register("reconstructions", "genkit_metrics.reconstructions:Reconstructions", kind="evaluator")
    register("sample_grid", "genkit_metrics.sample_grid:SampleGrid", kind="evaluator")
