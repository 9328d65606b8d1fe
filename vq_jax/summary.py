"""Shows the model of a config: `python -m vq_jax.summary --config configs/NAME.py`.

Modules, the shapes they return, their parameters, and the FLOPs of a training step. Nothing is allocated
and no data is read.
"""

import jax
from absl import flags
from flax import linen as nn
from ml_collections import config_flags

from vq_jax import cli
from vq_jax.errors import UserError
from vq_jax.ops.images import to_float
from vq_jax.tasks import make_task
from vq_jax.training.state import TrainState, abstract_batch

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in configs/.')
_IMAGE_SHAPE = flags.DEFINE_list(
    'image_shape', None, 'height,width,channels of the pictures, where the config does not say.'
)


def main() -> None:
    """Prints the table; the last line is the total number of parameters."""
    config = cli.read_config(_CONFIG)
    shape = _image_shape(config.data)
    task = make_task(config, shape)
    batch = abstract_batch(config.batch_size, shape)
    key = jax.random.key(0)

    print(nn.tabulate(task.model, key, depth=3, console_kwargs={'width': 120})(
        to_float(jax.numpy.zeros((1, *shape), 'uint8'))
    ))
    state: TrainState = jax.eval_shape(task.init, key, batch)
    flops = jax.jit(task.train_step).lower(state, batch).cost_analysis()['flops']
    total = sum(x.size for x in jax.tree.leaves(state.params))
    print(f'pictures:                  {config.batch_size} x {" x ".join(map(str, shape))}')
    print(f'FLOPs of a training step:  {flops:,.0f}')
    print(f'parameters in total:       {total:,}')


def _image_shape(data: object) -> tuple[int, int, int]:
    if _IMAGE_SHAPE.value:
        h, w, c = map(int, _IMAGE_SHAPE.value)
        return h, w, c
    if data.image_size and data.channels:
        return data.image_size, data.image_size, data.channels
    raise UserError(
        'the config leaves the size of the pictures to the data set; give --image_shape=h,w,c or set '
        'config.data.image_size and config.data.channels.'
    )


if __name__ == '__main__':
    cli.main(main, required=('config',))
