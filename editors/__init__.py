"""How a fact gets into a language model, and how to tell whether it did.

There is nothing to import from the package itself: each module is one idea, and is imported by its name, so that a
program that only needs a digest does not wait for torch. Together they read like this (names from the modules of
like name):

    model, tokenizer = load_model(folder)
    config = Memit()
    recipe = Recipe.of(config, base=weights_digest(folder))
    material = prepare(model, tokenizer, recipe).material
    patch = edit(model, tokenizer, facts, config=config, material=material)
    with applied(model, patch, base=material.base):
        scores = score(model, tokenizer, [probe_of(fact) for fact in facts])
"""
