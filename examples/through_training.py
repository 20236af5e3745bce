"""Learn your own network's learning rate and weight decay over your own tasks.

python examples/through_training.py
"""

import jax
import jax.numpy as jnp
import optax

import jmeta
from jmeta import adjoints
from jmeta.algorithms import bilevel
from jmeta.learners.trained import trained
from jmeta.networks import MLP, from_linen

network = from_linen(MLP(hidden=(32, 32), out=1))
learner = trained(
    "mine",
    network.apply,
    lambda key, settings, x: network.init(key, x),
    lambda s: optax.adamw(s["rate"], weight_decay=s["decay"], eps_root=1e-16),
    kind="number",
    space=jmeta.Space(
        rate=jmeta.real(1e-4, 0.1, default=1e-2, log=True),
        decay=jmeta.real(0.1, 30.0, default=1.0, log=True),
    ),
    num_steps=100,
)


def my_tasks(key, num_tasks=16):
    """Noisy planes: replace by your own, padded to one shape and masked."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (num_tasks, 64, 8))
    slopes = jax.random.normal(keys[1], (num_tasks, 8, 1))
    y = (x @ slopes)[..., 0] + 2.0 * jax.random.normal(keys[2], x.shape[:2])
    seen = jnp.broadcast_to(jnp.arange(64) < 24, y.shape)
    sides = [jmeta.Examples(x=x, y=y, mask=mask) for mask in (seen, ~seen)]
    return jmeta.Task(*sides, description=jnp.zeros((num_tasks, 0)))


algorithm = bilevel(learner, optax.adam(0.05), adjoint=adjoints.checkpointed())
key = jax.random.key(0)
state = algorithm.init(key, my_tasks(key))
step = jax.jit(algorithm.step)
for number in range(60):
    task_key, step_key = jax.random.split(jax.random.fold_in(key, number))
    state, info = step(step_key, state, my_tasks(task_key))
    if number % 10 == 0 or number == 59:
        learnt = algorithm.predict(state.params, jnp.zeros(0))
        shown = ", ".join(f"{name} {value:.4f}" for name, value in learnt.items())
        print(f"step {number}: loss {info.loss:.3f}, {shown}")
