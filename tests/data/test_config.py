import dataclasses
import inspect

import pytest

from vq_jax.data import DataConfig
from vq_jax.errors import UserError


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'name': ''}, 'config.data.name'),
        ({'channels': 2}, 'config.data.channels is 2'),
        ({'fit': 'squeeze'}, "data.fit is 'squeeze': use one of crop, pad, stretch"),
        ({'pad': -1}, 'config.data.pad'),
        ({'workers': -1}, 'config.data.workers'),
        ({'prefetch': -1}, 'config.data.prefetch'),
        ({'cache_gib': -0.5}, 'config.data.cache_gib'),
        ({'max_undecodable': 1.5}, 'config.data.max_undecodable is 1.5'),
        ({'image_size': 0}, 'config.data.image_size is 0'),
        ({'image_size': 10**5}, 'config.data.image_size is 100000: use 8192 pixels or less'),
        ({'pad': 10**6}, 'config.data.pad is 1000000: use 8192 pixels or less'),
        ({'resize': 10**5, 'image_size': 8}, 'config.data.resize is 100000: use 8192 pixels or less'),
        ({'resize': 10}, 'config.data.resize has an effect only'),
        ({'resize': 10, 'image_size': 8, 'fit': 'pad'}, 'config.data.resize has an effect only'),
        ({'random_crop': True}, 'config.data.random_crop has an effect only'),
        ({'image_size': 32, 'resize': 28}, 'config.data.resize is 28, too small to cut 32 pixels'),
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
