"""From text to unit vectors: texts -> client (tokens) -> service (HTTP) -> engine (batches) -> backend (vectors).

The service is a process of its own that holds the model once; everything else talks to it through the client.
"""
