"""Sound on its way from storage to batches, against definitions and SciPy."""

import numpy as np
import pytest

from vq_jax.data import DataConfig
from vq_jax.data.transforms import AudioTransform, Undecodable
from vq_jax.data.transforms.audio import mix, read
from vq_jax.data.transforms.loudness import Meter
from vq_jax.data.transforms.resampling import Resampling, resample
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
    mixed = mix(stereo, 1)
    assert mixed.dtype == np.int16 and mixed.tolist() == [
        [150],
        [-4],
        [32767],
        [2],
    ]  # halves go to even numbers
    assert mix(stereo[:, :1], 1).tolist() == stereo[:, :1].tolist()
    assert mix(stereo, 2) is stereo and mix(stereo[:, :1], 2).tolist() == stereo[:, [0, 0]].tolist()
    with pytest.raises(Undecodable, match='it has 6 channels, not 1 or 2; convert it to stereo'):
        mix(np.zeros((4, 6), np.int16), 2)


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


@pytest.mark.parametrize(('rate', 'wanted'), [(44100, 16000), (8000, 24000), (16000, 8000)])
def test_a_stretch_is_resampled_as_the_whole(rate, wanted):
    samples = np.random.default_rng(0).integers(-20_000, 20_000, (30_000, 2), np.int16)
    whole, resampling = resample(samples, rate, wanted), Resampling.of(rate, wanted)
    assert len(whole) == resampling.length(len(samples))
    for start, stop in (0, 7), (1000, 3000), (5001, 5002), (len(whole) - 9, len(whole)):
        first, last = resampling.inputs(start, stop, len(samples))
        stretch = resampling(samples[first:last], start, stop)
        np.testing.assert_array_equal(np.rint(stretch).clip(-(2**15), 2**15 - 1), whole[start:stop])
        assert last - first < (stop - start) * rate / wanted + 300 * max(1, rate // wanted) + 441


def test_what_the_lower_rate_holds_stays_and_the_rest_goes():
    """Sines at 0.88 and 1.02 of half of 16,000 samples a second, out of 44,100."""
    middle = slice(500, -500)
    for frequency, kept in (7040, 1), (8160, 0):
        changed = resample(sine(frequency, 44_100), 44_100, 16_000)[middle]
        expected = kept * sine(frequency, 16_000)[middle]
        np.testing.assert_allclose(changed, expected, atol=4)  # of 20,000


def test_rates_with_nothing_in_common():
    with pytest.raises(Undecodable, match='its rate is 383,999 16,000ths of the one that is wanted'):
        resample(np.zeros((1000, 1), np.int16), 383_999, 16_000)


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


@pytest.mark.parametrize('rate', [8000, 16_000, 44_100, 48_000])
def test_loudness_of_a_sine(rate):
    """The standard says -3.01 LUFS of 997 Hz at full scale; the filters are exact at 48,000 alone."""
    wave = np.sin(2 * np.pi * 997 * np.arange(3 * rate) / rate)[:, None]
    meter = Meter(rate, 1)
    for piece in np.split(wave, [100, rate, 2 * rate + 5]):
        meter.add(piece)
    assert meter.loudness() == pytest.approx(-3.01, abs=0.005 if rate == 48_000 else 0.05)
    assert meter.peak == pytest.approx(1, abs=1e-3)
    both = Meter(rate, 2)
    both.add(np.concatenate([wave, wave], axis=1))
    assert both.loudness() == pytest.approx(meter.loudness() + 10 * np.log10(2))
    with_pause = Meter(rate, 1)  # which does not count
    with_pause.add(np.concatenate([wave, np.zeros_like(wave)]))
    assert with_pause.loudness() == pytest.approx(meter.loudness(), abs=0.3)  # ungated, 3 less
    short = Meter(rate, 1)
    short.add(wave[: rate // 4])
    assert short.loudness() == pytest.approx(meter.loudness(), abs=0.1)
    silent = Meter(rate, 1)
    silent.add(0 * wave)
    assert silent.loudness() == -np.inf


def test_a_recording_is_brought_to_a_loudness():
    quiet, peaky = sine(997, 8000, amplitude=1000), sine(997, 8000, amplitude=1000)
    peaky[1000] = 30_000
    _, value = decoded(quiet, num_samples=4000, loudness=-23.0)
    meter = Meter(8000, 1)
    meter.add(value / 2**15)
    assert meter.loudness() == pytest.approx(-23, abs=0.01)
    _, value = decoded(peaky, num_samples=4000, loudness=-3.0)
    assert value.max() == 32_767 and value[0:900].max() == pytest.approx(
        1092, abs=1
    )  # as far as the peak lets
    _, value = decoded(0 * quiet, num_samples=4000, loudness=-23.0)
    assert not value.any()
    given, _ = AudioTransform.prepare(
        quiet, None, Spec('audio', (4000, 1), 8000.0), DataConfig(num_samples=4000, loudness=-23.0)
    )
    np.testing.assert_array_equal(given, decoded(quiet, num_samples=4000, loudness=-23.0)[1])
    with pytest.raises(Undecodable, match='it has 2000 samples a second, and loudness is of 4,000 or more'):
        decoded(quiet, 2000, num_samples=4000, loudness=-23.0)


def test_what_is_odd_is_told():
    clipped = np.array([0, 9, 32767, 32767, 32767, 9], np.int16)[:, None]
    for samples, odd in (
        (clipped, ['clipped']),
        (clipped[:4], []),
        (-clipped, ['clipped']),
        (0 * clipped, ['silent']),
    ):
        transform, _ = decoded(samples, num_samples=8)
        told = []
        transform.decode(wav.encode(samples, 8000), 'a.wav', told)
        assert told == odd
