"""Steps compiled for slices of TPUs: what needs no compiler of TPUs, and a small step where there is one."""

import importlib.util
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import topologies
from tests.runs import ROOT, refused, small_gan
from vq_jax import topology
from vq_jax.errors import UserError
from vq_jax.ops.conv import conv
from vq_jax.spec import Spec
from vq_jax.tasks import complete_config, default_config, make_task
from vq_jax.topology import CHIPS, CompiledStep, Topology, compile_step
from vq_jax.training.parallel import JitEngine, PmapEngine
from vq_jax.training.state import abstract_batch

IMAGES = Spec('image', (8, 8, 1))


@pytest.mark.parametrize(
    'name, size, accelerator_type',
    [
        ('v5e:4x4', 16, 'v5litepod-16'),
        ('v6e:2x4', 8, 'v6e-8'),
        ('v4:2x2x4', 16, 'v4-32'),
        ('v5p:2x2x1', 4, 'v5p-8'),
    ],
)
def test_the_names_of_slices(name, size, accelerator_type):
    named = Topology(name)
    assert (named.size, named.accelerator_type) == (size, accelerator_type)


@pytest.mark.parametrize('name', [f'{kind}:{shape}' for kind, chip in CHIPS.items() for shape in chip.shapes])
def test_all_slices_have_a_name_of_their_type(name):
    assert Topology(name).accelerator_type.endswith(f'-{Topology(name).size * Topology(name).chip.cores}')


@pytest.mark.parametrize(
    'name, words',
    [('h100:8', 'v4, v5e, v5p, v6e'), ('v5e:3x3', 'v5e:1x1'), ('v5e', '2x2, 2x4'), ('v4:4x4', 'v4:2x2x1')],
)
def test_a_slice_that_is_not_known(name, words):
    with pytest.raises(UserError, match='is not known') as raised:
        Topology(name)
    assert words in str(raised.value)


def test_the_command_says_so_in_one_sentence():
    config = '--config=configs/image/vqvae_mnist.py', '--shape=28,28,1'
    unknown, alone = refused('vq_jax.summary', [*config, '--topology=h100:8'], [*config, '--what=sample'])
    assert unknown.startswith('error: the topology h100:8 is not known') and unknown.count('\n') == 1
    assert alone.startswith('error: --what is of the step') and alone.count('\n') == 1


def test_without_the_compiler(monkeypatch):
    monkeypatch.setitem(sys.modules, 'libtpu', None)
    with pytest.raises(UserError, match=r'pip install "jax\[tpu\]"'):
        Topology('v5e:2x2').devices()


def test_a_batch_that_the_chips_cannot_share(monkeypatch):
    monkeypatch.setattr(Topology, 'devices', lambda self: [None] * self.size)
    config = complete_config(small_gan())
    with pytest.raises(
        UserError, match=r'config\.batch_size is 4, which 16 devices cannot share evenly; use 16'
    ):
        compile_step(config, IMAGES, 'v5e:4x4')


@pytest.mark.parametrize(
    'said, gib',
    [
        (
            'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries '
            '(48.00G) exceeds available HBM (15.75G).',
            49,
        ),
        ('RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 1.50T of 15.75G hbm.', 1536),
    ],
)
def test_what_the_compiler_says_of_a_program_that_is_too_large(said, gib):
    assert topology._needed(jax.errors.JaxRuntimeError(said), 2**30) == gib * 2**30
    with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
        topology._needed(jax.errors.JaxRuntimeError('INTERNAL: another mistake'), 0)


def test_the_roofline():
    numbers = dict.fromkeys(
        ('memory', 'temporaries', 'bytes_accessed', 'lower_seconds', 'compile_seconds'), 0
    )
    named = {'topology': Topology('v5e:1x1'), 'arguments': {}, 'fits': True, 'collectives': (), 'loops': ()}
    slow = CompiledStep(**named, **numbers, flops=197e12, hbm_bytes=2 * 819e9)
    assert slow.roofline_seconds == pytest.approx(2) and slow.share_of_peak == pytest.approx(0.5)
    fast = CompiledStep(**named, **numbers, flops=197e12, hbm_bytes=819e9 / 2)
    assert fast.roofline_seconds == pytest.approx(1) and fast.share_of_peak == pytest.approx(1)


@pytest.mark.parametrize('engine', [PmapEngine, JitEngine])
def test_what_an_engine_lowers_is_what_it_runs(engine):
    def step(state, batch, axis_name):
        mean = jnp.mean(batch['x'], axis=0)
        mean = jax.lax.pmean(mean, axis_name) if axis_name else mean
        return {'w': state['w'] - mean}, {'loss': jnp.sum(mean)}

    state, batch = {'w': jnp.arange(3.0)}, {'x': jnp.arange(12.0).reshape(4, 3)}
    lowered = engine().lower_train_step(step, *engine().abstract(state, batch))
    after, metrics = lowered.compile()(state, batch)
    np.testing.assert_allclose(after['w'], np.arange(3.0) - np.arange(12.0).reshape(4, 3).mean(0))
    assert metrics['loss'] == 4.5 + 5.5 + 6.5


def tiny_prior(kind):
    config = default_config('prior')
    config.batch_size = 4
    config.data.image_size, config.data.channels = 2, 1
    config.tokenizer.levels = 4
    config.model.kind = kind
    config.model.class_conditional = True
    config.model.label_dropout = 0.1
    config.sampling.guidance = 2.0
    config.transformer.depth, config.transformer.width, config.transformer.heads = 1, 16, 2
    config.pixelcnn.depth, config.pixelcnn.channels = 1, 8
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    'kind, pattern, channels',
    [
        ('transformer', 'flattened', 1),
        ('transformer', 'delay', 3),
        ('transformer', 'depth', 3),
        ('pixelcnn', 'flattened', 1),
    ],
)
def test_the_step_of_a_prior_makes_the_samples_of_its_loop(kind, pattern, channels):
    """Steps from an empty cache on, each given what the one before it returned."""
    spec, b = Spec('image', (2, 2, channels)), 4
    config = tiny_prior(kind)
    config.model.pattern, config.data.channels = pattern, channels
    task = make_task(complete_config(config), spec, 3)
    state = task.init(jax.random.key(1), None).for_inference()
    batch = {'label': jnp.arange(b) % 3, 'number': jnp.arange(b)}
    step, carried = topology._sampling_step(task, state, batch)
    carried = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), carried)
    variables = state.eval_variables()
    context = task.network.context(variables, batch['label'])
    *_, start = task.network.causal_step(variables, b, context, task.sampling)
    n, grow = task.network.num_steps, task.network.model.grow
    start = grow(start, n) if grow else start
    carried['cache'] = [x for x in map(jnp.asarray, jax.tree.leaves(start)) if x.ndim]
    tokens = []
    for i in range(n):
        carried = jax.jit(step)({'state': state, 'i': jnp.int32(i)}, carried, batch)
        tokens.append(carried['before'])
    keys = topology._keys(batch)
    expected = task.sample_codes(state, keys, batch['label']).reshape(b, -1)
    np.testing.assert_array_equal(task.network.from_steps(jnp.stack(tokens, 1)), expected)


def test_the_table_of_slices_is_of_all_configs_of_imagenet_and_of_what_was_recorded():
    files = {path.name for path in (ROOT / 'configs').glob('*/*_imagenet.py')}
    assert {name.partition(':')[0] for name in topologies.CONFIGS} == files
    assert topologies.PAGE.read_text() == topologies.page(topologies.read_records())


with_libtpu = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None, reason='libtpu is not installed (pip install "jax[tpu]")'
)


@pytest.mark.slow
@with_libtpu
def test_convolutions_of_few_examples_move_no_more_than_they_must():
    def step(state, batch, axis_name):
        y = conv(conv(batch['x'], state['kernel']), state['kernel'])
        return state, {'mean': jnp.mean(y, dtype=jnp.float32)}

    kernel, x = (jax.ShapeDtypeStruct((n, k, 128, 128), jnp.bfloat16) for n, k in ((3, 3), (4, 128)))
    engine = JitEngine(devices=Topology('v5e:1x1').devices())
    lowered = engine.lower_train_step(step, *engine.abstract({'kernel': kernel}, {'x': x}))
    # One convolution reads and writes, and the other, of which a mean is taken, reads.
    assert lowered.compile().cost_analysis()['bytes accessed'] < 4 * 2 * x.size


@pytest.mark.slow
@with_libtpu
def test_a_small_step_on_a_slice():
    config = complete_config(small_gan())
    step = compile_step(config, IMAGES, 'v5e:2x2')
    assert step.fits and step.flops > 0 and 0 < step.hbm_bytes < step.bytes_accessed
    task = make_task(config, IMAGES)
    state = jax.eval_shape(task.init, jax.random.key(0), abstract_batch(1, IMAGES))
    sizes = [x.size for network in state.networks.values() for x in jax.tree.leaves(network.params)]
    assert step.arguments['parameters'] == 4 * sum(sizes)
    assert step.arguments['batch'] == math.prod(IMAGES.shape) + 4 + 1  # bytes, label and mask of one example
    summed = {c.kind: c for c in step.collectives}['all-reduce']
    assert summed.bytes >= 4 * sum(sizes)  # the gradients
    assert compile_step(config, IMAGES, 'v5e:2x2', what='sample').flops < step.flops
