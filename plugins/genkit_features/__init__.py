"""Feature extractors: what distances between sets of images are measured in."""

from genkit import hookimpl


@hookimpl
def register_components(register):
    """Registers the extractors."""
    register("classifier", "genkit_features.classifier:Classifier", kind="feature_extractor")
    register("inception", "genkit_features.inception:Inception", kind="feature_extractor")
    register("values", "genkit_features.values:Values", kind="feature_extractor")
