"""Variational autoencoders: the model, its parts, and the evidence lower bound."""

from genkit import hookimpl

OBJECTIVES = {
    "beta_tc": "beta_tc:BetaTC",
    "elbo": "elbo:ELBO",
    "info_vae": "info_vae:InfoVAE",
    "iwae": "iwae:IWAE",
    "miwae": "miwae:MIWAE",
    "mmd": "mmd:MMD",
    "vr": "vr:VR",
}
LIKELIHOODS = {
    "bernoulli": "bernoulli:Bernoulli",
    "categorical": "categorical:Categorical",
    "continuous_bernoulli": "bernoulli:ContinuousBernoulli",
    "discretized_logistic": "discretized_logistic:DiscretizedLogistic",
    "gaussian": "gaussian:Gaussian",
}


@hookimpl
def register_components(register):
    """Registers the model, the objective and the parts of the model."""
    register("vae", "genkit_vae.vae:VAE", kind="model")
    register("hierarchical_vae", "genkit_vae.hierarchical_vae:HierarchicalVAE", kind="model")
    for name, target in OBJECTIVES.items():
        register(name, f"genkit_vae.{target}", kind="objective")
    register("diagonal", "genkit_vae.posterior:Diagonal", kind="posterior")
    register("full_covariance", "genkit_vae.full_covariance:FullCovariance", kind="posterior")
    for name, target in LIKELIHOODS.items():
        register(name, f"genkit_vae.likelihoods.{target}", kind="likelihood")


@hookimpl
def register_templates(register):
    """Offers what new components of this plugin's kinds start from."""
    for kind in ("likelihood", "posterior"):
        register(kind, f"genkit_vae.templates.{kind}")
