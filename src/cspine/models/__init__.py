"""Networks: loading them from bundles, running them, and making sense of what they say."""
