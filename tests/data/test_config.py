import dataclasses
import inspect

import pytest

from vq_jax.data import DataConfig
from vq_jax.errors import UserError


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'name': ''}, 'name is empty'),
        ({'channels': 4}, 'channels is 4'),
        ({'loudness': 3.0}, 'loudness is 3.0: use -70 to 0 LUFS'),
        ({'whole_recordings': True}, 'whole_recordings is true and num_samples is not set'),
        ({'text_tokenizer': 'bpe:255', 'num_tokens': 8}, 'text_tokenizer is bpe:255: use bpe:256 or more'),
        ({'name_pattern': '(a'}, "name_pattern is '(a', which is no regular expression"),
        ({'name_pattern': '(a)'}, "name_pattern is '(a)', which has no named group"),
        ({'name_pattern': '(?P<label>a)' + 200 * 'b'}, 'no named group or more than 200 characters'),
        ({'fit': 'squeeze'}, "fit is 'squeeze': use one of crop, pad, stretch"),
        ({'pad': -1}, 'pad'),
        ({'workers': -1}, 'workers'),
        ({'prefetch': -1}, 'prefetch'),
        ({'cache_gib': -0.5}, 'cache_gib'),
        ({'max_undecodable': 1.5}, 'max_undecodable is 1.5'),
        ({'image_size': 0}, 'image_size is 0'),
        ({'image_size': 10**5}, 'image_size is 100000: use 8192 pixels or less'),
        ({'pad': 10**6}, 'pad is 1000000: use 8192 pixels or less'),
        ({'resize': 10**5, 'image_size': 8}, 'resize is 100000: use 8192 pixels or less'),
        ({'resize': 10}, 'resize has an effect only'),
        ({'resize': 10, 'image_size': 8, 'fit': 'pad'}, 'resize has an effect only'),
        ({'random_crop': True}, 'random_crop has an effect only'),
        ({'image_size': 32, 'resize': 28}, 'resize is 28, too small to cut 32 pixels'),
    ],
)
def test_senseless_values(options, words):
    with pytest.raises(UserError) as caught:
        DataConfig(**options)
    assert words in str(caught.value)


def test_every_field_has_a_default_and_is_documented():
    doc = inspect.getdoc(DataConfig)
    for field in dataclasses.fields(DataConfig):
        assert field.default is not dataclasses.MISSING
        assert f'\n  {field.name}: ' in doc
