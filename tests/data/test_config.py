import dataclasses

import pytest

from vq_jax.data import DataConfig
from vq_jax.errors import UserError


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'name': ''}, 'data.name'),
        ({'channels': 2}, 'data.channels is 2'),
        ({'fit': 'squeeze'}, "data.fit is 'squeeze': use one of crop, pad, stretch"),
        ({'pad': -1}, 'data.pad'),
        ({'workers': -1}, 'data.workers'),
        ({'prefetch': -1}, 'data.prefetch'),
        ({'cache_gib': -0.5}, 'data.cache_gib'),
        ({'max_undecodable': 1.5}, 'data.max_undecodable is 1.5'),
        ({'image_size': 0}, 'data.image_size is 0'),
        ({'resize': 10}, 'data.resize has an effect only'),
        ({'resize': 10, 'image_size': 8, 'fit': 'pad'}, 'data.resize has an effect only'),
        ({'random_crop': True}, 'data.random_crop has an effect only'),
        ({'image_size': 32, 'resize': 28}, 'data.resize is 28, too small to cut 32 pixels'),
    ],
)
def test_senseless_values(options, words):
    with pytest.raises(UserError) as caught:
        DataConfig(**options)
    assert words in str(caught.value)


def test_every_field_has_a_default_and_is_documented():
    for field in dataclasses.fields(DataConfig):
        assert field.default is not dataclasses.MISSING
        assert f'      {field.name}: ' in DataConfig.__doc__
