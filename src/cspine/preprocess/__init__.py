"""Resampling for the networks: one DALI pipeline for model grids and vertebra crops, on CPU and GPU."""
