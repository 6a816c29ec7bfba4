"""What latents are worth: estimators of likelihoods, evaluators of latents, samplers fitted to them."""

from genkit import hookimpl

ESTIMATORS = {
    "annealed": "Annealed",
    "importance": "Importance",
    "monte_carlo": "MonteCarlo",
}
EVALUATORS = {
    "active_units": "ActiveUnits",
    "latent_usage": "LatentUsage",
    "log_likelihood": "LogLikelihood",
    "posterior_collapse": "PosteriorCollapse",
    "rate_distortion": "RateDistortion",
}
SAMPLERS = {
    "aggregate_posterior": "AggregatePosterior",
    "gaussian_mixture": "GaussianMixture",
}
KINDS = {"estimator": ESTIMATORS, "evaluator": EVALUATORS, "sampler": SAMPLERS}


@hookimpl
def register_components(register):
    """Registers the evaluators, the estimators and the samplers."""
    for kind, components in KINDS.items():
        for name, cls in components.items():
            register(name, f"genkit_latents.{name}:{cls}", kind=kind)


@hookimpl
def register_templates(register):
    """Offers what new components of this plugin's kinds start from."""
    register("estimator", "genkit_latents.templates.estimator")
