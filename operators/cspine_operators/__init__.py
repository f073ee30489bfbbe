"""MONAI Deploy operators: thin doors to the library."""
