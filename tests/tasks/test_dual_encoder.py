"""The dual encoder learns which text is whose, alike on one device and on several."""

import json

import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.runs import run
from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task


def test_what_does_not_fit():
    config = default_config('dual_encoder')
    with pytest.raises(UserError, match=r'config\.data\.caption_length is not set'):
        make_task(config, Spec('image', (8, 8, 3)))
    config.data.caption_length = 8
    config.contrast.temperature = 0.0
    with pytest.raises(UserError, match=r'config\.contrast\.temperature is 0'):
        make_task(config, Spec('image', (8, 8, 3)))
    config.contrast.temperature, config.accumulate = 0.07, 2
    with pytest.raises(UserError, match='compares all examples depends on the whole batch'):
        make_task(config, Spec('image', (8, 8, 3)))


@pytest.mark.slow
def test_texts_are_found_after_training(tmp_path):
    """Of images whose colour their text says, in numbers; four devices do what one does."""
    folder = tmp_path / 'colours'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(150):
        colour = rng.integers(0, 256, 3, np.uint8)
        Image.fromarray(np.broadcast_to(colour, (4, 4, 3)).copy()).save(folder / f'{i}.png')
        (folder / f'{i}.txt').write_text(' '.join(f'{x // 32}' for x in colour))
    config = tmp_path / 'config.py'
    config.write_text(f"""
from vq_jax.tasks import default_config

def get_config():
    config = default_config('dual_encoder')
    config.steps = config.eval_every = config.checkpoint_every = 4
    config.batch_size = 32
    config.log_every = 1
    config.data.name, config.data.eval_split = 'folder:{folder}', 'all'
    config.data.channels, config.data.caption_length = 3, 6
    config.model.stages, config.model.channels, config.model.dropout = 1, 8, 0.0
    config.text_encoder.update({{'depth': 1, 'width': 32, 'heads': 2}})
    config.optimizer.learning_rate = 3e-3
    return config
""")
    lines = []
    for devices in (1, 4):
        workdir = tmp_path / f'on_{devices}'
        run([f'--config={config}', f'--workdir={workdir}'], devices=devices)
        log = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
        lines.append([line['loss'] for line in log if line['split'] in ('train', 'eval')])
    np.testing.assert_allclose(*lines, rtol=1e-4)
    longer = [f'--config.{key}=300' for key in ('steps', 'eval_every', 'checkpoint_every')]
    run([f'--config={config}', f'--workdir={tmp_path / "longer"}', *longer])
    found = vq_jax.load(tmp_path / 'longer').retrieve(str(tmp_path / 'longer'), 'all')
    assert found['real']['recall_at_5'] > 0.3 > 0.15 > found['shuffled']['recall_at_5']
