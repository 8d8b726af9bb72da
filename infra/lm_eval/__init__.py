"""The shipped tasks of lm-eval over local files, read as package data; each names its file and what a line holds."""
