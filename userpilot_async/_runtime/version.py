"""The version of this library, for all folders to import."""

__version__ = "0.1.0"
