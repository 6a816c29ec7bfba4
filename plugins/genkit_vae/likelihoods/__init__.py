"""The likelihoods that come with genkit."""
