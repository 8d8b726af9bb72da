"""What consumers of releases use: settings, the object store for reading, versions, pulling, verifying, pinning.

`corrigenda` is the public face of it. Of the project's packages this one imports `governance` and `editors` alone, so
it works in a folder that has a `tasks/` or `flows/` of its own; nothing heavy is imported before it is used.
"""
