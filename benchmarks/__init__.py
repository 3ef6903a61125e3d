"""The cost of the client to its application, measured beside its neighbours: ``python -m benchmarks``.

Two runs on one machine may differ by a third, so nothing here is asserted, and only figures of one run are
compared: each subject gets a fresh interpreter, rounds are interleaved, and a figure is the median of its rounds.
"""
