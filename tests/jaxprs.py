"""What a function computes, operation by operation."""

import jax


def equations(function, *arguments):
    """All equations of the function's jaxpr, those inside of others too."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            yield equation
            for value in jax.tree.leaves(list(equation.params.values())):
                inner = getattr(value, 'jaxpr', value)
                if hasattr(inner, 'eqns'):
                    yield from walk(inner)

    return list(walk(jax.make_jaxpr(function)(*arguments).jaxpr))


def convolved_in(function, *arguments):
    """The types that the function's convolutions are given."""
    convolutions = [e for e in equations(function, *arguments) if e.primitive.name == 'conv_general_dilated']
    return {x.aval.dtype.name for e in convolutions for x in e.invars}


def recomputed_blocks(function, *arguments):
    """How many parts of the function are computed again in its backward pass."""
    return sum(e.primitive.name in ('remat2', 'checkpoint') for e in equations(function, *arguments))
