"""The table of providers."""
