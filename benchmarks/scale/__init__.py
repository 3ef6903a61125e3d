"""How the client's costs grow with what waits: ``python -m benchmarks.scale``, some minutes.

Each size gets a fresh interpreter. What grows faster than what waits, or stops the event loop for long, is seen here:
with 10,000 calls it is not.
"""
