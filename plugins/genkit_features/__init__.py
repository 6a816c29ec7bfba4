"""Feature extractors: what distances between sets of images are measured in."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the extractors."""
    register("classifier", "genkit_features.classifier:Classifier", kind="feature_extractor")
    register("inception", "genkit_features.inception:Inception", kind="feature_extractor")
    register("values", "genkit_features.values:Values", kind="feature_extractor")


@hookimpl
def register_templates(register):
    """Offers what new components of this plugin's kinds start from."""
    register("feature_extractor", "genkit_features.templates.feature_extractor")
