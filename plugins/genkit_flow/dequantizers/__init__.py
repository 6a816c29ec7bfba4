"""The dequantizers, a file for each method."""
