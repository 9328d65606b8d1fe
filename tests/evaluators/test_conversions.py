"""A decoder that is told the class, and classifiers of it and of another: who speaks, and what is said.

In place of speakers there are pitches, which folders name, and in place of words the half of a sound in which
something is heard, which names of files tell.
"""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.evaluators.features import FeatureEvaluator
from vq_jax.evaluators.sources import LABELLING, FeatureSource
from vq_jax.media import wav
from vq_jax.models.classifier import Classified
from vq_jax.spec import ConditionSpec, Spec
from vq_jax.tasks import default_config
from vq_jax.tasks.restore import Restored
from vq_jax.tasks.vqvae import VQVAETask

RATE, LENGTH = 8000, 256
PERIODS = {'high': 8, 'low': 32, 'middle': 16}  # samples
HALVES = ('early', 'late')


def sounding(period, late):
    """Tones [b t 1] of periods and halves [b]."""
    t = jnp.arange(LENGTH)
    heard = (t >= LENGTH // 2) == late[:, None]
    return jnp.round(8000 * jnp.sin(2 * jnp.pi * (t + 0.5) / period[:, None]) * heard).astype('int16')[
        ..., None
    ]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sounds')
    for name, period in PERIODS.items():
        (folder / name).mkdir()
        for i in range(8):
            tone = sounding(np.array([period]), np.array([i % 2]))[0]
            wav.write(folder / name / f'{i}_{HALVES[i % 2]}.wav', np.asarray(tone), RATE)
    return folder


def halves(x):
    return jnp.stack([jnp.sum(jnp.abs(x[:, part, 0]), 1) for part in np.split(np.arange(LENGTH), 2)], 1)


def pitches(x):
    spectrum = jnp.abs(jnp.fft.rfft(x[..., 0]))
    return jnp.stack([spectrum[:, LENGTH // period] for period in PERIODS.values()], 1)


class Exchanger(VQVAETask):
    """Its codes are what is said and who says it, of which its decoder takes the latter from the label."""

    def encode(self, state, x):
        x = x.astype(jnp.float32)
        return (jnp.stack([jnp.argmax(halves(x), 1), jnp.argmax(pitches(x), 1)], 1)[:, None],)

    def decode(self, state, codes, labels):
        return self.say(*codes[0][:, 0].T, labels)

    def say(self, said, speaker, labels):
        return sounding(jnp.array(list(PERIODS.values()))[labels], said)


class Deaf(Exchanger):
    def say(self, said, speaker, labels):
        return super().say(said, speaker, speaker)


class Forgetful(Exchanger):
    def say(self, said, speaker, labels):
        return super().say(0 * said, speaker, labels)


def run(task, folder):
    config = default_config('vqvae')
    config.model.update({'channels': 4, 'stages': 2, 'class_conditional': True})
    config.quantizer.num_codes, config.batch_size = 8, 10
    config.data.update({'name': f'folder:{folder}', 'num_samples': LENGTH})
    spec = Spec('audio', (LENGTH, 1), RATE)
    made = task.from_config(config, spec, len(PERIODS))
    batch = {'x': np.zeros((1, LENGTH, 1), np.int16), 'label': np.zeros(1, np.int32)}
    state = initialised(made.init, jax.random.key(0), batch)
    return Restored(config, made, state, spec, 0, folder, tuple(PERIODS))


def source(seen, folder, names, pattern=None):
    def look(weights, x):
        logits = seen(x.astype(jnp.float32))
        return Classified(features=jnp.log1p(logits), logits=logits)

    labelling = dict(zip(LABELLING, ('label', pattern, 'audio/filename'), strict=True))
    return FeatureSource(
        look=look,
        check_spec=lambda run: None,
        weights=(),
        record={},
        identity={},
        prefix='classifier_',
        trained_on=f'folder:{folder}',
        labelling=labelling,
        class_names=names,
    )


@dataclasses.dataclass(frozen=True)
class Speaker:
    """In place of a task: it says what a condition asks for, as the class does, or always the same."""

    listens: bool = True
    num_labels: int = len(PERIODS)
    condition_specs = types.MappingProxyType({'said': ConditionSpec((), 'int32')})

    def check_conditions(self, dataset):
        assert 'said' in dataset.conditions

    def sample(self, state, keys, labels, conditions):
        said = conditions['said'] if self.listens else jnp.zeros_like(labels)
        return sounding(jnp.array(list(PERIODS.values()))[labels], said)


@pytest.mark.parametrize('listens', [True, False])
def test_what_samples_should_be_is_what_the_examples_of_their_conditions_are(listens, folder):
    exchanger = run(Exchanger, folder)
    exchanger.config.data.name_pattern = r'_(?P<said>[a-z]+)\.wav'
    speaker = dataclasses.replace(exchanger, task=Speaker(listens))
    said = source(halves, folder, HALVES, r'_(?P<label>[a-z]+)\.wav')
    found = FeatureEvaluator(speaker, said, 'all').run(24, seed=0)['samples']
    assert found['metrics']['classifier_accuracy'] == pytest.approx(1 if listens else 0.5)
    voices = source(pitches, folder, tuple(PERIODS), exchanger.config.data.name_pattern)
    found = FeatureEvaluator(speaker, voices, 'all').run(24, seed=0)['samples']
    assert found['metrics']['classifier_accuracy'] == 1


@pytest.mark.parametrize(
    'task, seen, rebuilt, converted',
    [
        pytest.param(Exchanger, pitches, 1, 1, id='the other speaker is recognised'),
        pytest.param(Exchanger, halves, 1, 1, id='the word is kept'),
        pytest.param(Deaf, pitches, 1, 0, id='the other speaker is not recognised'),
        pytest.param(Forgetful, halves, 0.5, 0.5, id='the word is not kept'),
    ],
)
def test_what_classifiers_say_of_conversions(task, seen, rebuilt, converted, folder):
    names = {pitches: (tuple(PERIODS), None), halves: (HALVES, r'_(?P<label>[a-z]+)\.wav')}
    found = FeatureEvaluator(run(task, folder), source(seen, folder, *names[seen]), 'all').run(0, seed=0)
    assert found['conversions']['images'] == 24 and 'samples' not in found
    accuracy = [found[kind]['metrics']['classifier_accuracy'] for kind in ('reconstructions', 'conversions')]
    assert accuracy == pytest.approx([rebuilt, converted])
    if task is Exchanger:
        distance = found['reconstructions']['metrics']['classifier_frechet']
        assert distance == pytest.approx(0, abs=1e-6)


def test_classifiers_whose_classes_or_examples_are_not_those_of_the_run(folder):
    others = source(halves, folder, ('early', 'never'), r'_(?P<label>[a-z]+)\.wav')
    words = "than the classifier was trained on: 'never' is missing and 'late' is new"
    with pytest.raises(UserError, match=words):
        FeatureEvaluator(run(Exchanger, folder), others, 'all').run(0, seed=0)
    same = source(pitches, folder, ('high', 'low', 'lower'))
    with pytest.raises(UserError, match="was trained on other classes than the classifier: 'lower' is miss"):
        FeatureEvaluator(run(Exchanger, folder), same, 'all')
    elsewhere = source(halves, folder, HALVES, r'(?P<split>low)?.*_(?P<label>[a-z]+)\.wav')
    with pytest.raises(UserError, match=r'has other examples with the config\.data\.name_pattern of the'):
        FeatureEvaluator(run(Exchanger, folder), elsewhere, 'train').run(0, seed=0)
