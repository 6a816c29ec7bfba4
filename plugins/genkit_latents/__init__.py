"""What latents are worth: estimators of likelihoods, evaluators of latents, samplers fitted to them."""

from genkit import hookimpl

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


@hookimpl
def register_components(register):
    """Registers the evaluators, the estimators and the samplers."""
    register("importance", "genkit_latents.importance:Importance", kind="estimator")
    for kind, components in (("evaluator", EVALUATORS), ("sampler", SAMPLERS)):
        for name, cls in components.items():
            register(name, f"genkit_latents.{name}:{cls}", kind=kind)
