"""What is being learned: one file a kind of model, chosen by the names below."""

from vq_jax.tasks.captioner import CaptionerTask
from vq_jax.tasks.classifier import ClassifierTask
from vq_jax.tasks.diffusion import DiffusionTask
from vq_jax.tasks.dual_encoder import DualEncoderTask
from vq_jax.tasks.gan import GANTask
from vq_jax.tasks.prior import PriorTask
from vq_jax.tasks.registry import TASKS, complete_config, default_config, make_task
from vq_jax.tasks.task import Task
from vq_jax.tasks.vae import VAETask
from vq_jax.tasks.vqgan import VQGANTask
from vq_jax.tasks.vqvae import VQVAETask

__all__ = ['TASKS', 'Task', 'complete_config', 'default_config', 'make_task']

TASKS |= {
    'vae': VAETask,
    'vqvae': VQVAETask,
    'gan': GANTask,
    'vqgan': VQGANTask,
    'prior': PriorTask,
    'diffusion': DiffusionTask,
    'classifier': ClassifierTask,
    'dual_encoder': DualEncoderTask,
    'captioner': CaptionerTask,
}
