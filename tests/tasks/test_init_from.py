"""Runs that begin with the weights of another."""

import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vq_jax
from tests.runs import assert_equal_runs, small_gan
from vq_jax.errors import UserError
from vq_jax.spec import Spec, TextVectors, Tokens
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.codec import Identity
from vq_jax.tasks.init_from import arrays_of_other_classes, check_same_texts, take_weights
from vq_jax.train import train
from vq_jax.training.optimizer import Optimizer
from vq_jax.training.run_dir import DataFacts
from vq_jax.training.state import AdversarialState, TrainState


def state(value, *, width=2, ema=False, **more):
    """A model of two layers and a codebook, all of one value, and its averages of the next."""
    params = {'first': jnp.full((2, width), value), 'last': {'bias': jnp.full(3, value)}, **more}
    variables = {
        'params': params,
        'codebook': {'codes': jnp.full((4, width), value)},
        'batch_stats': {'mean': jnp.full(3, value)},
    }
    optimizer = Optimizer(optax.adam(0.1), lambda step: 0.1, 0.9 if ema else 0.0)
    made = TrainState.create(jax.random.key(0), variables, optimizer)
    if ema:
        averages = jax.tree.map(lambda x: x + 1, (made.ema_params, made.ema_stats))
        made = made.replace(ema_params=averages[0], ema_stats=averages[1])
    return made


def values(tree):
    return {float(value) for x in jax.tree.leaves(tree) for value in np.unique(x)}


def test_averages_are_taken_as_parameters_and_the_optimizer_begins_anew():
    source, new = state(5.0, ema=True), state(1.0, ema=True)
    taken, report = take_weights(source.replace(step=jnp.array(7)), new)
    assert values(taken.params) == values(taken.ema_params) == {6.0}
    assert values(taken.variables['batch_stats']) == values(taken.ema_stats) == {6.0}
    assert values(taken.variables['codebook']) == {5.0}
    jax.tree.map(np.testing.assert_array_equal, taken.opt_state, new.opt_state)
    assert taken.step == 0
    assert report == ['taken into the model: 4 of its 4 arrays, of parameters the moving averages']


def test_what_fits_is_taken_and_what_does_not_is_told():
    source, new = state(5.0, width=3, old=jnp.zeros(1)), state(1.0, head=jnp.full(2, 1.0))
    taken, report = take_weights(source, new)
    assert values(taken.params['last']) == values(taken.variables['batch_stats']) == {5.0}
    assert values([taken.params['first'], taken.params['head'], taken.variables['codebook']]) == {1.0}
    assert report == [
        'taken into the model: 2 of its 5 arrays',
        "not there, for the model: ['params']['head']",
        "of another shape, for the model: ['codebook']['codes'] (float32[4, 3] there, float32[4, 2] here), "
        "['params']['first'] (float32[2, 3] there, float32[2, 2] here)",
        "of no use, for the model: ['params']['old']",
    ]


def test_a_model_and_the_generator_of_two_networks_are_the_same():
    one, two = state(5.0), AdversarialState(generator=state(1.0), discriminator=state(2.0))
    taken, report = take_weights(one, two)
    assert values(taken.generator.params) == {5.0} and values(taken.discriminator.params) == {2.0}
    assert report[0] == 'taken into the generator: 4 of its 4 arrays'
    assert report[1] == 'taken into the discriminator: 0 of its 4 arrays'
    assert values(take_weights(two, one)[0].params) == {1.0}
    other = AdversarialState(generator=state(3.0), discriminator=state(4.0))
    assert values(take_weights(other, two)[0].discriminator.params) == {4.0}


def test_nothing_in_common_is_refused():
    empty = state(1.0).replace(params={'other': jnp.zeros(2)}, variables={})
    with pytest.raises(
        UserError, match=r'nothing that this model could begin with \(taken into the model: 0'
    ):
        take_weights(state(5.0), empty)


def test_what_is_left_out_is_told():
    source, new = state(5.0), state(1.0)
    taken, report = take_weights(source, new, {'generator': {"['params']['first']"}})
    assert values(taken.params['first']) == {1.0} and values(taken.params['last']) == {5.0}
    assert report == [
        'taken into the model: 3 of its 4 arrays',
        "of other classes, for the model: ['params']['first']",
    ]


UNET = {
    'channels': 8,
    'multipliers': (1,),
    'residual_blocks': 1,
    'attention_resolutions': (),
    'head_channels': 8,
}
RESIDUAL = {
    'channels': 8,
    'multipliers': (1,),
    'residual_blocks': 1,
    'attention_resolutions': (),
    'features': 8,
}
CONDITIONAL = {'class_conditional': True}
# Of models that know classes, the sections of their config, and the names of their arrays of classes.
OF_CLASSES = {
    'classifier': ('classifier', {'model': {'channels': 8, 'stages': 1}}, ['Dense_1']),
    'gan': ('gan', {'model': CONDITIONAL}, ['Dense_0', 'Embed_0', 'probe']),
    'unconditional gan': ('gan', {}, ['probe']),
    'transformer': ('prior', {'model': CONDITIONAL}, ['label']),
    'pixelcnn': (
        'prior',
        {'model': {**CONDITIONAL, 'kind': 'pixelcnn'}, 'pixelcnn': {'channels': 8, 'depth': 1}},
        ['classes_horizontal', 'classes_vertical'],
    ),
    'unconditional prior': ('prior', {}, []),
    'unet': ('diffusion', {'model': CONDITIONAL, 'unet': UNET}, ['Embed_0']),
    'dit': (
        'diffusion',
        {'model': {**CONDITIONAL, 'backbone': 'dit'}, 'dit': {'depth': 1, 'width': 16, 'heads': 2}},
        ['Embed_0'],
    ),
    'vqgan': (
        'vqgan',
        {
            'variant': CONDITIONAL,
            'model': RESIDUAL,
            'discriminator': {'stages': 1},
            'perceptual': {'kind': 'none'},
        },
        ['Embed_0', 'condition'],
    ),
}


@pytest.mark.parametrize('name', OF_CLASSES)
def test_arrays_of_classes_are_those_that_depend_on_their_number(name):
    task_name, sections, expected = OF_CLASSES[name]
    config = default_config(task_name)
    config.update(sections)
    task = make_task(config, Spec('image', (16, 16, 1)), 3)

    def left_out(*names):
        facts = DataFacts(Spec('image', (16, 16, 1)), 3, class_names=('a', 'b', 'c'))
        source = SimpleNamespace(class_names=names or None, workdir='source')
        return arrays_of_other_classes(source, config, task, facts)

    assert left_out('a', 'b', 'c') == left_out() == left_out('a', 'b') == {}
    for names in (('a', 'c', 'b'), ('a', 'b', 'd')):
        found = [key for keys in left_out(*names).values() for key in keys]
        assert sorted({key.split("'")[-4] for key in found}) == expected


def test_other_classes_are_refused_where_a_decoder_knows_them(monkeypatch):
    """As a prior over a VQGAN whose decoder is told the class."""
    config = default_config('prior')
    config.model.class_conditional = True
    monkeypatch.setattr(Identity, 'num_labels', 3)
    facts = DataFacts(Spec('image', (8, 8, 1)), 3, class_names=('a', 'b', 'c'))
    source = SimpleNamespace(class_names=('a', 'b', 'd'), workdir='source')
    with pytest.raises(UserError, match="source, which --init_from names, learned of other classes: 'd' is"):
        arrays_of_other_classes(source, config, make_task(config, Spec('image', (8, 8, 1)), 3), facts)


def learning_at(rate):
    config = small_gan()
    config.optimizer.learning_rate = config.discriminator_optimizer.learning_rate = rate
    return config


def test_a_run_begins_with_another_and_remembers_it(tmp_path, capsys):
    train(learning_at(0.1), tmp_path / 'source')
    config = learning_at(0.0)
    train(config, tmp_path / 'tuned', init_from=tmp_path / 'source')
    assert f'begins with step 2 of {tmp_path / "source"}; taken into the gen' in capsys.readouterr().out
    source, tuned = (vq_jax.load(tmp_path / name).state for name in ('source', 'tuned'))
    for player in ('generator', 'discriminator'):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(source, player).params, getattr(tuned, player).params
        )
    began = json.loads((tmp_path / 'tuned' / 'data.json').read_text())['init_from']
    assert (began['step'], began['from_here']) == (2, '../source')

    # It goes on without being told, and with the same words, and not with others.
    train(config, tmp_path / 'tuned')
    train(config, tmp_path / 'tuned', init_from=tmp_path / 'source', init_from_step=2)
    for options, words in (
        ({'init_from': tmp_path / 'tuned'}, 'began with step 2 of .*source, not with'),
        ({'init_from': tmp_path / 'source', 'init_from_step': 1}, 'not with step 1 of'),
        ({'init_from_step': 2}, 'without --init_from'),
    ):
        with pytest.raises(UserError, match=words):
            train(config, tmp_path / 'tuned', **options)
    with pytest.raises(UserError, match='did not begin with another'):
        train(learning_at(0.1), tmp_path / 'source', init_from=tmp_path / 'tuned')

    # Killed before anything was saved, and moved together with what it began with.
    moved = tmp_path / 'moved'
    (moved / 'killed').mkdir(parents=True)
    (tmp_path / 'source').rename(moved / 'source')
    for name in ('config.json', 'data.json'):
        shutil.copy(tmp_path / 'tuned' / name, moved / 'killed')
    train(config, moved / 'killed')
    assert_equal_runs(tmp_path / 'tuned', moved / 'killed')


def of_captions(kind, *, read=True):
    """A task, and what is known of its data, images with captions in tokens of a kind."""
    task = SimpleNamespace(condition_specs={'text': None} if read else {})
    return task, Spec('image', (8, 8, 1), tokens=Tokens(kind))


@pytest.mark.parametrize('theirs_read', [True, False])
@pytest.mark.parametrize('ours_read', [True, False])
def test_tokens_of_texts_must_be_those_that_were_learned_where_both_models_read_them(theirs_read, ours_read):
    def check(theirs, ours):
        task, spec = of_captions(theirs, read=theirs_read)
        other, other_spec = of_captions(ours, read=ours_read)
        source = SimpleNamespace(task=task, spec=spec, workdir='runs/other')
        check_same_texts(source, other, SimpleNamespace(spec=other_spec))

    check('bytes', 'bytes')
    if theirs_read and ours_read:
        with pytest.raises(UserError, match='runs/other, which --init_from names, learned of texts in other'):
            check('bytes', 'bpe')
    else:
        check('bytes', 'bpe')


def test_vectors_of_texts_must_be_those_that_were_learned():
    task = SimpleNamespace(condition_specs={'text': None, 'text_vectors': None})
    first, longer, other = (
        Spec('image', (8, 8, 1), tokens=Tokens('bytes'), text_vectors=TextVectors(length, 3, encoder))
        for length, encoder in ((4, 'a'), (5, 'a'), (4, 'b'))
    )
    source = SimpleNamespace(task=task, spec=first, workdir='runs/other')
    check_same_texts(source, task, SimpleNamespace(spec=longer))  # of which no parameter knows
    with pytest.raises(
        UserError, match='runs/other, which --init_from names, learned of vectors of texts by'
    ):
        check_same_texts(source, task, SimpleNamespace(spec=other))
