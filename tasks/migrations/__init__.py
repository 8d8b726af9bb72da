"""The ledger's schema, one revision a file."""
