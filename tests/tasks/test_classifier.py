"""The classifier's loss, its dropout and its features."""

import jax
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8, 1), np.uint8)
BATCH = {'x': IMAGES, 'label': np.arange(6, dtype=np.int32) % 3, 'mask': np.ones(6, bool)}


def make(**changes):
    config = default_config('classifier')
    config.model.update({'channels': 8, 'stages': 2, 'features': 12, **changes})
    config.optimizer.learning_rate = 1e-2
    task = make_task(config, Spec('image', (8, 8, 1)), num_classes=3)
    return task, initialised(task.init, jax.random.key(0), BATCH)


def test_learns_six_images_by_heart():
    task, state = make(dropout=0.1)
    step = jax.jit(task.train_step)
    for _ in range(60):
        state, metrics = step(state, BATCH)
    assert metrics['loss'] < 0.1
    assert np.mean(task.eval_step(state, BATCH)['accuracy']) == 1


def test_loss_is_the_cross_entropy_and_logits_are_linear_in_the_features():
    task, state = make()
    logits = np.float64(task.classify(state, IMAGES).logits)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    values = task.eval_step(state, BATCH)
    np.testing.assert_allclose(values['loss'], -np.log(p[np.arange(6), BATCH['label']]), rtol=1e-4)
    np.testing.assert_array_equal(values['accuracy'], logits.argmax(1) == BATCH['label'])
    last = state.params['Dense_1']
    features = task.classify(state, IMAGES).features
    assert features.shape == (6, 12) and features.dtype == np.float32
    np.testing.assert_allclose(features @ last['kernel'] + last['bias'], logits, rtol=1e-4, atol=1e-5)


def test_dropout_is_of_training_alone():
    (task, state), (other, _) = make(dropout=0.5), make(dropout=0.0)
    _, dropped = jax.jit(task.train_step)(state, BATCH)
    _, whole = jax.jit(other.train_step)(state, BATCH)
    assert dropped['loss'] != whole['loss']
    assert whole['loss'] == pytest.approx(float(np.mean(task.eval_step(state, BATCH)['loss'])), rel=1e-5)


def test_images_show_the_right_class_in_blue():
    task, _ = make()
    probabilities = np.array([[1.0, 0, 0], [0, 0.5, 0.5]])
    shown = {'images': np.zeros((2, 8, 9, 1), np.uint8), 'labels': np.array([0, 2])}
    (sheet,) = task.media({**shown, 'probabilities': probabilities}, {}).values()
    image = sheet.image
    blue = np.all(image == (31, 78, 121), axis=-1)
    grey = np.all(image == 150, axis=-1)
    assert blue.sum() == 2 * grey.sum() * (8 + 4) / 8 and grey.sum()


@pytest.mark.parametrize('changes, words', [({'stages': 0}, 'give 1 or more'), ({'dropout': 1.0}, 'below 1')])
def test_mistakes(changes, words):
    with pytest.raises(UserError, match=words):
        make(**changes)


def test_data_without_classes_or_of_another_size():
    with pytest.raises(UserError, match='two classes or more'):
        make_task(default_config('classifier'), Spec('image', (8, 8, 1)), num_classes=0)
    with pytest.raises(UserError, match='made for'):
        make()[0].check_spec(Spec('image', (8, 8, 3)))


def test_of_mel_bands_the_sign_of_a_sound_is_no_matter():
    sound = RNG.integers(-9_000, 9_000, (4, 256, 1), np.int16)
    config, spec = default_config('classifier'), Spec('audio', (256, 1), 8000)
    config.model.update({'channels': 8, 'stages': 2, 'features': 12, 'mel_window': 64})
    batch = {'x': sound, 'label': np.arange(4, dtype=np.int32) % 3, 'mask': np.ones(4, bool)}
    for bands, same in ((6, True), (0, False)):
        config.model.mel_bands = bands
        task = make_task(config, spec, num_classes=3)
        state = initialised(task.init, jax.random.key(0), batch)
        logits, turned = (np.asarray(task.classify(state, x).logits) for x in (sound, -sound))
        assert np.allclose(logits, turned, atol=1e-4) == same
    # 16 times and 6 bands, halved twice.
    config.model.mel_bands = 6
    shapes = jax.eval_shape(make_task(config, spec, num_classes=3).init, jax.random.key(0), batch).params
    assert shapes['Dense_0']['kernel'].shape == (4 * 2 * 16, 12)
    for changes, spec, words in (
        (
            {},
            Spec('image', (8, 8, 1)),
            'config.model.mel_bands is of sounds, and these are images; set it to 0',
        ),
        ({}, Spec('audio', (256, 1)), 'the rate of these is not known; set config.data.sample_rate, or mel_'),
        ({'mel_window': 66}, Spec('audio', (256, 1), 8000), 'config.model.mel_window is 66; give a multiple'),
    ):
        config.model.update(changes)
        with pytest.raises(UserError, match=words):
            make_task(config, spec, num_classes=3)
