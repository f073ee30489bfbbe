"""The HTTP of the label server: MONAI Label's calls, and a few of our own. Thin doors to `desk`."""
