"""Experiments, as a notebook builds and fits them."""

import pytest

import vq_jax
from tests.runs import assert_equal_runs, small_gan
from vq_jax.train import train


def test_an_experiment_is_fitted_as_the_command_trains_it_and_gone_on_with(tmp_path):
    config, (ours, theirs) = small_gan(), (tmp_path / 'fitted', tmp_path / 'trained')
    for steps in (2, 4):
        config.steps = steps
        metrics = vq_jax.fit(vq_jax.Experiment.build(config), ours)
        assert metrics == train(config, theirs)
    assert_equal_runs(ours, theirs)
    config.seed = 1
    with pytest.raises(vq_jax.UserError, match=r'seed \(there 0, now 1\)'):
        vq_jax.fit(vq_jax.Experiment.build(config), ours)
    # One that was built for a directory is not for another, whose run it would not know.
    begun = vq_jax.Experiment.build(small_gan(4), ours)
    assert begun.begun.config['steps'] == 4
    assert vq_jax.fit(begun, tmp_path / 'new') is not None
    assert_equal_runs(ours, tmp_path / 'new')


def test_what_is_wrong_with_a_config_is_told_before_anything_is_written(tmp_path):
    config = small_gan()
    config.batch_size = 0
    with pytest.raises(vq_jax.UserError, match=r'config\.batch_size is 0; give 1 or more'):
        vq_jax.Experiment.build(config)
    with pytest.raises(vq_jax.UserError, match='there is no run in'):
        vq_jax.Experiment.build(small_gan(), tmp_path, extend_schedule='hold')
    assert not list(tmp_path.iterdir())
