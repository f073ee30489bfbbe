"""Training data: phantoms rendered as the networks see them."""
