"""The version, where everybody can import it from."""

__version__ = "0.1.0"
