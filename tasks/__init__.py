"""What Corrigenda does to the world: one verb a file, a thin task over a plain function."""
