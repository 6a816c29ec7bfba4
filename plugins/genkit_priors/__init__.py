"""Priors over latents, for every model that has latents."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the priors."""
    register("standard_normal", "genkit_priors.prior:StandardNormal", kind="prior")
    register("uniform", "genkit_priors.prior:Uniform", kind="prior")
