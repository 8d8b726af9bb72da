"""Who asked for what, who let it through, and what proves it: statements that people sign, events, and releases.

It holds a platform's records against one another and against the keys under its root, and asks no service for
anything: the platform asks when it promotes, a consumer of what was pulled, and an auditor of an export. Of the
project's packages it imports `editors` alone.
"""
