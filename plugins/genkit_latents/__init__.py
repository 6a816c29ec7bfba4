"""What latents are worth: estimators of likelihoods, evaluators of latents, samplers fitted to them."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the evaluators, the estimators and the samplers."""
    register("annealed", "genkit_latents.annealed:Annealed", kind="estimator")
    register("importance", "genkit_latents.importance:Importance", kind="estimator")
    register("monte_carlo", "genkit_latents.monte_carlo:MonteCarlo", kind="estimator")
    register("log_likelihood", "genkit_latents.log_likelihood:LogLikelihood", kind="evaluator")


@hookimpl
def register_templates(register):
    """Offers what new components of this plugin's kinds start from."""
    register("estimator", "genkit_latents.templates.estimator")
