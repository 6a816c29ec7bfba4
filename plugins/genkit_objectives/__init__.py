"""Objectives for models of any family, and objectives that are made of objectives."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the objectives."""
    register("maximum_likelihood", "genkit_objectives.maximum_likelihood:MaximumLikelihood", kind="objective")
    register("reverse_kl", "genkit_objectives.reverse_kl:ReverseKL", kind="objective")
    register("sum", "genkit_objectives.sum:Sum", kind="objective")
