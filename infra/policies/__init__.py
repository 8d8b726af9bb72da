"""The shipped gate policies, TOML files read as package data."""
