"""The version, for the package's metadata and for the user agent."""

__version__ = "0.1.0"
