"""The MONAI Label app (not built yet)."""
