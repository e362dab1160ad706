"""The kernel of Ragplat: settings, types, errors and what every app shares. Imports no app."""

__version__ = "0.1.0"
