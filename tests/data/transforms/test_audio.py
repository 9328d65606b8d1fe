"""Sound on its way from storage to batches, against definitions and SciPy."""

import numpy as np
import pytest

from vq_jax.data import DataConfig
from vq_jax.data.transforms import AudioTransform, Undecodable
from vq_jax.data.transforms.audio import mono, read, resample
from vq_jax.errors import UserError
from vq_jax.media import wav
from vq_jax.spec import Spec


class Recordings:
    """What a source declares."""

    name, kind, shape, use_orientation, class_names = 'recordings', 'audio', (None, 1), False, ()

    def __init__(self, rate=None):
        self.rate = rate


def sine(frequency, rate, seconds=0.5, amplitude=20_000):
    time = np.arange(round(seconds * rate)) / rate
    return np.rint(amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.int16)[:, None]


def test_channels_are_averaged():
    stereo = np.array([[100, 200], [-3, -4], [32767, 32767], [1, 2]], np.int16)
    mixed = mono(stereo)
    assert mixed.dtype == np.int16 and mixed.tolist() == [
        [150],
        [-4],
        [32767],
        [2],
    ]  # halves go to even numbers
    assert mono(stereo[:, :1]).tolist() == stereo[:, :1].tolist()


@pytest.mark.parametrize(('rate', 'wanted'), [(8000, 16000), (44100, 8000), (16000, 11025)])
def test_a_sine_keeps_its_frequency_when_it_is_resampled(rate, wanted):
    changed = resample(sine(1000, rate), rate, wanted)
    assert changed.shape == (-(-round(rate / 2) * wanted // rate), 1) and changed.dtype == np.int16
    middle = slice(1000, 2500)  # the filter reaches beyond the ends
    np.testing.assert_allclose(changed[middle], sine(1000, wanted)[middle], atol=200)


def test_what_the_lower_rate_cannot_hold_is_filtered_out():
    """Without a filter, 7,000 Hz would come out as 1,000 Hz at 8,000 samples a second."""
    changed = resample(sine(7000, 16000), 16000, 8000)
    assert np.abs(changed[200:-200]).max() < 100


def test_the_same_rate_changes_nothing():
    samples = sine(1000, 8000)
    assert resample(samples, 8000, 8000) is samples


def test_the_result_is_bounded():
    with pytest.raises(Undecodable, match='too many to be resampled from 1 to 384000'):
        resample(np.zeros((1000, 1), np.int16), 1, 384_000)


def test_integers_of_other_types():
    samples, rate = read((np.array([0, 32767, -32768], np.int64), 8000))
    assert samples.dtype == np.int16 and samples.tolist() == [[0], [32767], [-32768]] and rate == 8000
    for wrong in np.array([32768]), np.zeros(0, np.int64):
        with pytest.raises(Undecodable):
            read((wrong, None))
    with pytest.raises(Undecodable, match='not a WAV file'):
        read(b'an image')


def decoded(samples, rate=8000, **options):
    transform = AudioTransform(DataConfig(**options), Recordings(rate))
    if transform.spec is None:
        transform.spec = transform.measure(wav.encode(samples, rate), 'first')
    return transform, transform.decode(wav.encode(samples, rate), 'a.wav')


def test_length():
    samples = np.arange(1, 11, dtype=np.int16)[:, None]
    transform, whole = decoded(samples)
    np.testing.assert_array_equal(whole, samples)
    assert (transform.spec.kind, transform.spec.shape, transform.spec.rate) == ('audio', (10, 1), 8000)
    assert isinstance(transform.spec.rate, float)  # as it comes back from a file
    _, padded = decoded(samples, num_samples=12)
    assert padded[:, 0].tolist() == [*range(1, 11), 0, 0]  # silence at the end
    _, middle = decoded(samples, num_samples=4)
    assert middle[:, 0].tolist() == [4, 5, 6, 7]


def test_random_crops_cover_all_positions():
    samples = np.arange(1, 11, dtype=np.int16)[:, None]
    transform, value = decoded(samples, num_samples=8, random_crop=True)
    assert transform.varied and transform.uniforms == 1 and len(value) == 10
    uniforms = np.array([[0.0], [0.34], [0.99]])
    assert transform.augment([value] * 3, uniforms)[:, 0, 0].tolist() == [1, 2, 3]
    assert transform.centre(value)[:, 0].tolist() == list(range(2, 10))


def test_what_differs_from_the_others_needs_a_key():
    transform, _ = decoded(np.ones((10, 1), np.int16))
    with pytest.raises(
        UserError, match=r'^a has 9 samples, not 10 as the others: set config.data.num_samples'
    ):
        transform.decode(wav.encode(np.ones((9, 1), np.int16), 8000), 'a')
    with pytest.raises(
        UserError, match=r'^a has 16000 samples a second, not 8000 .* config.data.sample_rate'
    ):
        transform.decode(wav.encode(np.ones((10, 1), np.int16), 16000), 'a')
    transform = AudioTransform(DataConfig(num_samples=5, sample_rate=8000), Recordings())
    with pytest.raises(UserError, match=r'does not say its rate: leave config.data.sample_rate out'):
        transform.decode((np.ones(5, np.int64), None), 'a')


def test_colours_are_refused():
    with pytest.raises(UserError, match=r'config.data.channels is 3, and sound is mixed into one'):
        AudioTransform(DataConfig(channels=3), Recordings())


def test_a_sound_of_a_user_that_cannot_be_taken_is_answered_in_a_sentence():
    spec, config = Spec('audio', (64, 1), 384_000.0), DataConfig(num_samples=64)
    slow = wav.encode(np.zeros((1000, 1), np.int16), 1)
    with pytest.raises(UserError, match=r'cannot be taken .* too many to be resampled .* give a shorter one'):
        AudioTransform.prepare(slow, None, spec, config)
    for shape in ((), (2, 64, 1)):
        with pytest.raises(
            UserError, match=r'the sound is of shape .* give .* an array, int16 \[t\] or \[t c\]'
        ):
            AudioTransform.prepare(np.zeros(shape, np.int16), None, spec, config)
