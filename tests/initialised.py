"""The state that training begins with, without the time that a jitted initialiser takes to compile."""

import jax
from jax.extend.core import Var, jaxpr_as_fun


def initialised(init, *arguments):
    """What an initialiser returns, one operation after another, and none that the result does not depend on.

    Jitted, it compiles the random numbers of every parameter anew, which takes several times as long as to
    compile the model; but many parameters have one shape. Called as it is, it runs the model as well.
    """
    closed, result = jax.make_jaxpr(init, return_shape=True)(*arguments)
    needed, kept = {x for x in closed.jaxpr.outvars if isinstance(x, Var)}, []
    for equation in reversed(closed.jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed |= {x for x in equation.invars if isinstance(x, Var)}
            kept.append(equation)
    pruned = closed.replace(jaxpr=closed.jaxpr.replace(eqns=kept[::-1]))
    return jax.tree.unflatten(jax.tree.structure(result), jaxpr_as_fun(pruned)(*jax.tree.leaves(arguments)))
