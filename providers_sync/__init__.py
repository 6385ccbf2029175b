"""The face of providers_sync."""
