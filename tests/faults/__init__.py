"""The fault table: what can go wrong with a streamed answer, and the result the caller must get."""
