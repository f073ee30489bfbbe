"""The MONAI Deploy application and the command `fracture-map`."""
