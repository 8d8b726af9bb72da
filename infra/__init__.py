"""Where Corrigenda runs: the local stack, deployments and policies."""
