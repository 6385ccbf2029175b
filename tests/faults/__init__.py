"""The fault table: what may go wrong with a streamed answer, and what a reader must see then."""
