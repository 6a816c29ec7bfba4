"""What new components of this plugin's kinds start from."""
