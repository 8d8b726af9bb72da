"""What the command line offers, a file for each part of the work; flows/cli.py puts them together."""
