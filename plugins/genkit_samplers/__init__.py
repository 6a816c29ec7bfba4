"""First-party samplers."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the samplers."""
    register("prior", "genkit_samplers.prior:Prior", kind="sampler")
