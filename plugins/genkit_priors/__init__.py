"""Priors over latents, for every model that has latents."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the priors."""
    register("mixture", "genkit_priors.mixture:Mixture", kind="prior")
    register("normal", "genkit_priors.normal:Normal", kind="prior")
    register("standard_normal", "genkit_priors.prior:StandardNormal", kind="prior")
    register("uniform", "genkit_priors.prior:Uniform", kind="prior")
    register("vamp", "genkit_priors.vamp:Vamp", kind="prior")


@hookimpl
def register_templates(register):
    """Offers what new components of this plugin's kinds start from."""
    register("prior", "genkit_priors.templates.prior")
