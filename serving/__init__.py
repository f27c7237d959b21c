"""TF Serving: configuration, a local server with its API, and a client."""
