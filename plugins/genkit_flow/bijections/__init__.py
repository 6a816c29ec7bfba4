"""The bijections, a file for each method."""
