"""The autoencoder: learn codes or latents from which examples can be reconstructed.

VQ-VAE, VAE and VQGAN are parts of a model, a list of weighted losses and maybe a discriminator; `vqvae.py`,
`vae.py` and `vqgan.py` make these of a config.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vq_jax.errors import UserError, plural
from vq_jax.media import Media, sheets
from vq_jax.models.autoencoder import Autoencoder, Codes
from vq_jax.models.context import Context, beside, class_vector
from vq_jax.models.decoder import LAST_KERNEL
from vq_jax.models.observation import expected
from vq_jax.models.residual import ResidualSizes
from vq_jax.models.streams import STREAM
from vq_jax.ops import adversarial_losses
from vq_jax.ops.collectives import pmean
from vq_jax.ops.grids import first_as_cell, per_axis
from vq_jax.ops.images import to_float, to_integers
from vq_jax.ops.keys import content_keys
from vq_jax.ops.likelihoods import bits_per_dimension
from vq_jax.ops.losses import mean_absolute, mean_square
from vq_jax.ops.metrics import reconstruction_metrics
from vq_jax.ops.parts import Part, map_over_parts, over_parts
from vq_jax.quantizers.gaussian import LATENT
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS, StartsFromData, revive
from vq_jax.spec import Spec
from vq_jax.tasks.adversarial import Adversary, mean_image
from vq_jax.tasks.balancer import BALANCE, BalancerConfig
from vq_jax.tasks.code_reports import (
    codebook_media,
    of_scales,
    reconstruction_media,
    summarize,
    usage_of_batch,
    watch_usage,
)
from vq_jax.tasks.diagnostics import gradient_norms, quantization_metrics, vector_moments
from vq_jax.tasks.losses import BottleneckLoss, OutputLoss
from vq_jax.tasks.perceptual import Perceptual
from vq_jax.tasks.task import State, Task, check_same_kind, size_keys
from vq_jax.tasks.translation import Source
from vq_jax.tasks.values import bytes_of, to_examples, to_values
from vq_jax.training.optimizer import Optimizer
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import AdversarialState, TrainState

_ADVERSARIAL, _FEATURES = 'adversarial', 'feature_matching'  # losses that are no `OutputLoss`
_NO_PERCEPTUAL, _ITSELF = Perceptual('none'), Source()


@dataclasses.dataclass(frozen=True)
class AutoencoderTask(Task):
    """See `vq_jax.tasks.task.Task` for what each method does, and for attributes not named here.

    The state is a `TrainState`, or with an adversary an `AdversarialState`.

    Attributes:
        model: the autoencoder.
        factors: by how much the encoder divides the sizes of the grid, along all axes or each.
        factors_key: what in the config sets them, for messages.
        losses: of the outputs; their weighted sum is lowered.
        bottleneck_loss: how that of the bottleneck counts beside them.
        optimizer: changes the autoencoder.
        adversary: the discriminator, and how it learns; None without, as a model with a head must be.
        balancer: weighs the losses of the outputs by the norms of their gradients; None if by numbers alone.
        perceptual: the perceptual loss among `losses`, if it is there.
        source: what the encoder sees of an example.
        more_codes: a sentence that says how more of the codes come into use.
        streams: whether the model can be applied to one chunk of an example after the other.
        first_apart: whether the first position along the first axis is encoded by itself, so that
            1 + k*factor of them become 1 + k, as by causal models of video.
    """

    model: Autoencoder
    spec: Spec
    factors: tuple[int, ...]
    factors_key: str
    losses: tuple[OutputLoss, ...]
    bottleneck_loss: BottleneckLoss
    optimizer: Optimizer
    adversary: Adversary | None = None
    balancer: BalancerConfig | None = None
    perceptual: Perceptual = _NO_PERCEPTUAL
    source: Source = _ITSELF
    more_codes: str = ''
    streams: bool = False
    first_apart: bool = False
    num_labels: int = 0
    accumulate: int = 1

    @property
    def vocabularies(self) -> tuple[tuple[int, ...], ...]:
        """How many codes there are, of each scale at each depth; empty for continuous latents."""
        return self.model.vocabularies

    @property
    def decodable(self) -> tuple[tuple[int, ...], ...]:
        """How many codes of a position `decode` takes, of each scale: all, or the first so many."""
        return self.model.decodable

    @property
    def decodable_scales(self) -> tuple[int, ...]:
        """Of how many scales `decode` takes the codes: of all, or of the first so many."""
        return self.model.decodable_scales

    @property
    def has_likelihood(self) -> bool:
        """Whether the decoder is a likelihood, so that there is `log_likelihood`."""
        return self.model.head is not None

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` unless the model can take such examples."""
        check_same_kind(spec, self.spec)
        encoded_grid(spec, self.factors, self.factors_key, self.first_apart)
        if spec.channels != self.spec.channels:
            raise UserError(
                f'the examples have {plural(spec.channels, "channel")} and the model was made for '
                f'{self.spec.channels}; set config.data.channels to {self.spec.channels}.'
            )
        self.source.check_spec(spec)

    def check_losses(self, spec: Spec) -> None:
        """Raises `UserError` if examples are too small for the perceptual loss or the discriminator."""
        self.perceptual.check_spec(spec)
        if self.adversary:
            self.adversary.check_spec(spec)

    def init(self, key: jax.Array, batch: Batch) -> State:
        """Random parameters of all networks."""
        key, discriminator_key = jax.random.split(key)
        params_key, run_key = jax.random.split(key)
        x, labels = to_values(batch['x'][:1], self.spec), batch['label'][:1]
        variables = self.model.init(params_key, self.source(x), self._context(labels))
        if self.balancer:
            variables = {**variables, BALANCE: self.balancer.init(self._named_losses)}
        state = TrainState.create(run_key, variables, self.optimizer)
        if not self.adversary:
            return state
        shown = beside(x, self.source.condition(x))
        return AdversarialState(
            generator=state, discriminator=self.adversary.init(discriminator_key, shown, labels)
        )

    @property
    def reads_published(self) -> bool:
        """Whether its perceptual loss is LPIPS."""
        return self.perceptual.kind == 'lpips'

    def pretrained(self) -> Any:
        """The weights of the perceptual loss."""
        return self.perceptual.pretrained()

    def pretrained_shapes(self) -> Any:
        """Their shapes."""
        return self.perceptual.shapes()

    def init_from_data(self, key: jax.Array, state: State, batches: Iterable[Batch], engine: Engine) -> State:
        """Lets quantizers that want it begin where the vectors of the first batches are, the coarsest first.

        Raises:
            UserError: if there are fewer vectors than codes.
        """
        generator = state.networks['generator']

        def vectors(generator: TrainState, batch: Batch, i: int) -> jax.Array:
            def of_part(batch: Batch) -> jax.Array:
                seen = self.seen(to_values(batch['x'], self.spec))
                return self.model.apply(generator.eval_variables(), seen, i, method='beginning')

            return map_over_parts(of_part, batch, self.accumulate)

        def begin(variables: Any, key: jax.Array, vectors: jax.Array, i: int) -> Any:
            mutable = ['params', STATISTICS]
            return self.model.apply(variables, key, vectors, i, method='init_codes', mutable=mutable)[1]

        for i, beginner in enumerate(self.model.beginners):
            if not isinstance(beginner, StartsFromData) or not beginner.init_batches:
                continue
            compiled = engine.per_example(functools.partial(vectors, i=i))
            taken = [compiled(generator, batch) for batch in islice(batches, beginner.init_batches)]
            found = np.concatenate(taken).reshape(-1, taken[0].shape[-1])
            variables = {'params': generator.params, **generator.variables}
            try:
                placed = jax.jit(functools.partial(begin, i=i))(variables, jax.random.fold_in(key, i), found)
            except UserError as error:  # of attributes of the quantizer, which are keys of this section
                raise UserError(f'config.quantizer: {error}') from error
            placed = jax.device_get(placed)
            params = placed.pop('params', generator.params)
            averages = None if generator.ema_params is None else jax.tree.map(jnp.copy, params)
            variables = {**generator.variables, **placed}
            generator = engine.put_state(
                generator.replace(params=params, variables=variables, ema_params=averages)
            )
        return state.with_networks(generator=generator)

    def phase(self, step: int) -> str:
        """See `AdversarialConfig.phase`; without an adversary there is one, without a name."""
        return self.adversary.config.phase(step) if self.adversary else ''

    def train_step(
        self, state: State, batch: Batch, axis_name: str | None = None, phase: str | None = None
    ) -> tuple[State, dict[str, jax.Array]]:
        """One update of the autoencoder, and of the discriminator if it learns.

        The autoencoder runs forward once. Each loss gives its gradient with respect to the outputs; weighed
        and summed, they go back through the autoencoder together.

        The adaptive weight is known when the whole batch was seen. In parts, the gradients that it weighs
        therefore go back apart: a second backward pass of the autoencoder, and a second set of gradients.

        The phase is as `AdversarialConfig.phase` gives it; None is the last one.
        """
        generator, discriminator = state.networks['generator'], state.networks.get('discriminator')
        phase = phase or 'together'
        learns = self.adversary is not None and phase != 'absent'
        felt = learns and phase == 'together'
        apart = felt and self.accumulate > 1 and self.adversary.config.adaptive
        centre = mean_image(to_values(batch['x'], self.spec), axis_name) if learns else None
        none = jnp.zeros(())
        ramped, of_features = self.adversary.config.ramped(state.step) if felt else (none, none)
        key = generator.step_key()

        def of_part(batch: Batch, part: Part) -> tuple[dict[str, Any], Codes]:
            """What the networks learn from a part of the batch, and its codes."""
            labels, x = batch['label'], to_values(batch['x'], self.spec)
            target = self._observed(part.keys(jax.random.fold_in(key, 0)), x)

            def reconstruct(params: Any) -> tuple[Any, Any]:
                variables = {'params': params, **generator.variables}
                (features, quantized), changed = self.model.apply(
                    variables,
                    self.source(target),
                    self._context(labels),
                    train=True,
                    part=part,
                    step=generator.step,
                    method='features',
                    mutable=[BATCH_MEANS],
                    rngs=dict.fromkeys(('codebook', LATENT), key),
                )
                outputs = self.model.apply(variables, features, method='last')
                loss = jnp.mean(self.bottleneck_loss(quantized.loss, x, generator.step))
                return (outputs, loss), (features, changed.get(BATCH_MEANS, {}), quantized)

            def loss_of(outputs: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
                loss, named = self._output_losses(outputs, target, state.frozen)
                return jnp.mean(loss), jax.tree.map(jnp.mean, named)

            outcome = jax.vjp(reconstruct, generator.params, has_aux=True)
            (outputs, bottleneck_loss), pull, (features, batch_means, quantized) = outcome
            if self.balancer:
                named, gradients, loss = self._apart(outputs, target, state.frozen)
            else:
                (loss, named), gradient = jax.value_and_grad(loss_of, has_aux=True)(outputs)
            metrics = {'loss': loss + bottleneck_loss, **named, 'bottleneck_loss': bottleneck_loss}
            means, weight = {'metrics': {**metrics, **quantized.metrics}, 'codebooks': batch_means}, ramped
            if learns:
                against, means['discriminator'] = self.adversary.compare(
                    discriminator, x, outputs, labels, part, centre, self.source.condition(x)
                )
            if self.balancer:
                weights = {loss.name: loss.weight for loss in self.losses}
                if felt:
                    gradients[_ADVERSARIAL], weights[_ADVERSARIAL] = against(1.0, 0.0), ramped
                    if self.adversary.config.matches_features:
                        gradients[_FEATURES], weights[_FEATURES] = against(0.0, 1.0), of_features
                gradient, means[BALANCE], balanced = self.balancer.balance(
                    generator.variables[BALANCE], gradients, weights, axis_name
                )
                means['metrics'] |= balanced
            elif felt and self.adversary.config.adaptive:
                if self.adversary.config.matches_features:
                    gradient += against(0.0, of_features)
                adversarial = against(1.0, 0.0)
                if apart:
                    means['adversarial_gradients'] = pull((adversarial, none))[0]
                else:
                    pulls = (
                        pmean(self._at_last_kernel(generator.params, features, x), axis_name)
                        for x in (gradient, adversarial)
                    )
                    weight *= adversarial_losses.adaptive_weight(*pulls, self.adversary.config.most_adaptive)
                    gradient += weight * adversarial
            elif felt:
                gradient += against(ramped, of_features)
            (means['gradients'],) = pull((gradient, jnp.ones(())))
            means['weight'] = weight
            return means, quantized.codes if self.vocabularies else ()

        means, codes = over_parts(of_part, batch, self.accumulate, axis_name)
        grads, weight, metrics = means['gradients'], means['weight'], means['metrics']
        if apart:
            pulls = (flatten_dict(tree)[LAST_KERNEL] for tree in (grads, means['adversarial_gradients']))
            weight = ramped * adversarial_losses.adaptive_weight(*pulls, self.adversary.config.most_adaptive)
            grads = jax.tree.map(lambda x, y: x + weight * y, grads, means['adversarial_gradients'])
        generator, update = generator.apply_gradients(grads, self.optimizer)
        if self.balancer:
            generator = generator.replace(variables={**generator.variables, BALANCE: means[BALANCE]})
        generator, learned = self._learn_codes(generator, means['codebooks'])
        metrics |= {
            **usage_of_batch(codes, self.vocabularies, self.model.shared_codebook),
            **update,
            **learned,
        }
        networks = {'generator': generator.finish_step(self.optimizer)}
        if self.adversary:
            metrics['adversarial_weight'] = weight
        if learns:
            networks['discriminator'], of_discriminator = self.adversary.update(
                discriminator, means['discriminator']
            )
            metrics |= of_discriminator
        return state.with_networks(**networks), metrics

    def watch(self, metrics: dict[str, float]) -> str | None:
        """A warning if generator or discriminator has won, once the one feels what the other says."""
        return self.adversary.watch(metrics) if metrics.get('adversarial_weight') else None

    def watch_evaluation(self, metrics: dict[str, float]) -> str | None:
        """A warning if few of the codes are in use (see `watch_usage`)."""
        positions = int(metrics['examples']) * math.prod(
            encoded_grid(self.spec, self.factors, self.factors_key, self.first_apart)
        )
        # A codebook that scales share is used by all of them together, of which the finest has that grid.
        vocabularies = self.vocabularies[:1] if self.model.shared_codebook else self.vocabularies
        return watch_usage(metrics, vocabularies, positions, self.more_codes)

    def eval_step(self, state: State, batch: Batch) -> dict[str, jax.Array]:
        """Losses without the adversarial one, errors, and the codes of each scale with their error.

        With codes and a likelihood also, in nats, 'reconstruction', `log p(x | z)`, and 'kl_uniform_prior',
        what the codes cost if all are equally likely; and the bits per dimension of both together, an upper
        bound on those of the example, which of text `summarize` gives for each byte. What is sampled of an
        example depends on its bytes alone.
        """
        x = to_values(batch['x'], self.spec)
        target = self._target(x)
        variables, context = state.eval_variables(), self._context(batch['label'])
        z = self.model.apply(variables, self.source(target), method='encoder')
        quantized = self.model.apply(variables, z, method='quantized')
        outputs = self.model.apply(variables, quantized.values, context, method='reconstruct')
        loss, named = self._output_losses(outputs, target, state.frozen)
        values = {
            'loss': loss + self.bottleneck_loss(quantized.loss, x),
            **errors(expected(outputs), batch['x'], self.spec),
        }
        if self.perceptual.kind != 'none':
            values[self.perceptual.kind] = named['perceptual_loss']
        if not self.vocabularies:
            return {**values, 'kl': quantized.loss}
        values |= of_scales('codes', quantized.codes)
        values |= self.model.apply(variables, z, quantized.codes, self.decodable, method=vector_moments)
        if self.has_likelihood:
            nats = outputs.log_probability(target)
            scales = zip(quantized.codes, self.vocabularies, strict=True)
            kl = sum(codes[0, ..., 0].size * sum(map(math.log, vocabulary)) for codes, vocabulary in scales)
            values |= {
                'reconstruction': nats,
                'kl_uniform_prior': jnp.full_like(nats, kl),
            }
            if self.spec.kind != 'text':
                bits = bits_per_dimension(nats - kl, x[0].size)
                values['bits_per_dimension_uniform_prior'] = bits
        return values

    def eval_first_step(self, state: State, batch: Batch) -> dict[str, jax.Array]:
        """The norms of the gradient of the outputs' losses before and after it passes the bottleneck."""
        if not self.vocabularies:
            return {}
        x = to_values(batch['x'], self.spec)
        target = self._target(x)
        variables, context = state.eval_variables(), self._context(batch['label'])

        def loss(values: Any) -> jax.Array:
            outputs = self.model.apply(variables, values, context, method='reconstruct')
            return jnp.sum(self._output_losses(outputs, target, state.frozen)[0])

        z = self.model.apply(variables, self.source(target), method='encoder')
        part = Part.of_contents(batch['x'])
        return gradient_norms(self.model, variables, z, loss, part=part, step=state.step)

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """The means, with the use of codes over the whole set, and how well quantizers do.

        Of text 'accuracy' is of all tokens and ends, and 'bits_per_byte_uniform_prior' are the bits of codes,
        tokens and ends for each byte of all texts.
        """
        if self.spec.kind == 'text':
            means = dict(means)
            of_bytes, nats = means.pop('bytes'), means['reconstruction'] - means['kl_uniform_prior']
            means['bits_per_byte_uniform_prior'] = bits_per_dimension(nats, of_bytes)
            means['accuracy'] = means.pop('right') / means.pop('predicted')
        usage = summarize(means, self.vocabularies, self.model.shared_codebook)
        return {**usage, **quantization_metrics(means, self.decodable)}

    def predict(self, state: State, batch: Batch) -> dict[str, jax.Array]:
        """Examples, what the encoder saw if that is another thing, codes, and what these decode to."""
        codes = self.encode(state, batch['x'])
        named = of_scales('codes', codes) if self.vocabularies else {}
        if self.source.kind != 'image':
            named['seen'] = to_examples(self.seen(to_values(batch['x'], self.spec)), self.spec)
        rebuilt = self.decode(state, codes, batch['label'])
        return {'images': batch['x'], **named, 'reconstructions': rebuilt}

    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """Originals over reconstructions over code maps; histograms of code use."""
        shown = {}
        if 'seen' in predictions:
            names = {'inputs': 'seen', 'outputs': 'reconstructions', 'originals': 'images'}
            rows = {caption: predictions[name] for caption, name in names.items()}
            shown['translations'] = sheets.rows(rows)
        return {**shown, **reconstruction_media(predictions, means, self.vocabularies, self.spec)}

    def codebook(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """What the codes of each scale that are used most decode to."""
        if self.first_apart:
            rebuilt = first_as_cell(predictions['reconstructions'], self.factors[0])
            predictions = {**predictions, 'reconstructions': np.asarray(rebuilt)}
        return codebook_media(predictions, means, self.vocabularies, self.spec)

    def seen(self, x: jax.Array) -> jax.Array:
        """What the encoder is given of examples [b *grid c] in [-1, 1]; a function of their bytes."""
        return self.source(self._target(x))

    def encode(self, state: State, x: jax.Array) -> Codes:
        """Codes, or latents (see `Autoencoder.encode`), of examples as the spec says [b *grid c]."""
        return self.model.apply(state.eval_variables(), self.seen(to_values(x, self.spec)), method='encode')

    def decode(
        self, state: State, codes: Codes, labels: jax.Array, goes_on: jax.Array | None = None
    ) -> jax.Array:
        """Examples as the spec says, of codes or latents, and of classes int32 [b] if it is conditioned.

        Texts have no end where they are known to go on, bool [b n].
        """
        decoded = self.model.apply(state.eval_variables(), codes, self._context(labels), method='decode')
        return to_examples(decoded, self.spec, goes_on)

    def encode_chunk(self, state: State, past: Any, x: jax.Array) -> tuple[Codes, Any]:
        """Codes, or latents, of the next chunk [b t ...] of examples; only if it `streams`.

        Args:
            state: as for `encode`.
            past: what this returned of the chunk before; empty for the first, or if none is `first_apart` all
                zeros.
            x: the chunk, as the spec says, whose length is a multiple of the first of the `factors`; of the
                first chunk one more if one is `first_apart`.
        """
        variables = {**state.eval_variables(), **past}
        seen = self.seen(to_values(x, self.spec))
        return self.model.apply(variables, seen, method='encode', mutable=[STREAM])

    def decode_chunk(self, state: State, past: Any, codes: Codes, labels: jax.Array) -> tuple[jax.Array, Any]:
        """The next chunk of examples, of its codes or latents; only if it `streams`. See `encode_chunk`."""
        variables = {**state.eval_variables(), **past}
        inputs = codes, self._context(labels)
        decoded, past = self.model.apply(variables, *inputs, method='decode', mutable=[STREAM])
        return to_examples(decoded, self.spec), past

    def lookup(self, state: State, codes: Codes) -> Codes:
        """The vectors [... d] that stand for codes, int32 [... depth] of each scale."""
        return self.model.apply(state.eval_variables(), codes, method='lookup')

    def project(self, state: State, x: jax.Array) -> jax.Array:
        """The vectors [b *grid' code_dim] of examples that are compared with codes; only of one scale."""
        return self.model.apply(state.eval_variables(), self.seen(to_values(x, self.spec)), method='project')

    def nearest(self, state: State, vectors: jax.Array) -> Codes:
        """The codes nearest to vectors [b *grid' code_dim]; only of one scale."""
        return self.model.apply(state.eval_variables(), vectors, method='nearest')

    def log_likelihood(
        self, state: State, x: jax.Array, codes: Codes, labels: jax.Array | None = None
    ) -> jax.Array:
        """`log p(x | codes)` of examples as the spec says [b *grid c], in nats [b]; only if `has_likelihood`.

        Where the likelihood is one of what is sampled of an example, such as black and white pixels, the
        sample is the one that `encode` makes, so that `log p(x | z) + log p(z)` bounds `log p(x)` from below
        with `z = encode(state, x)`.
        """
        inputs = codes, self._context(labels)
        outputs = self.model.apply(state.eval_variables(), *inputs, method='outputs')
        return outputs.log_probability(self._target(to_values(x, self.spec)))

    def _context(self, labels: jax.Array | None) -> Context:
        return Context(vector=class_vector(labels, self.num_labels))

    def _observed(self, keys: jax.Array, x: jax.Array) -> jax.Array:
        """Examples in [-1, 1] as the likelihood observes them, with a random key for each [b]."""
        return self.model.head.observe(keys, x) if self.has_likelihood else x

    def _target(self, x: jax.Array) -> jax.Array:
        """The same, where the keys are made of the bytes."""
        return self._observed(content_keys(to_examples(x, self.spec)), x) if self.has_likelihood else x

    def _output_losses(
        self, outputs: Any, x: jax.Array, frozen: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum, and each loss by its name, of each example [b]."""
        named = {loss.name: loss.difference(outputs, x, frozen) for loss in self.losses}
        return sum(loss.weight * named[loss.name] for loss in self.losses), named

    @property
    def _named_losses(self) -> tuple[str, ...]:
        """The names of all losses of the outputs, those of the discriminator's side among them."""
        names = tuple(loss.name for loss in self.losses)
        if not self.adversary:
            return names
        return (*names, _ADVERSARIAL, *([_FEATURES] if self.adversary.config.matches_features else []))

    def _apart(
        self, outputs: Any, x: jax.Array, frozen: Any
    ) -> tuple[dict[str, jax.Array], dict[str, Any], jax.Array]:
        """Each loss and its gradient at the outputs by name, without weights, and the weighted sum."""
        named, gradients = {}, {}
        for loss in self.losses:
            named[loss.name], gradients[loss.name] = jax.value_and_grad(
                lambda outputs, loss=loss: jnp.mean(loss.difference(outputs, x, frozen))
            )(outputs)
        return named, gradients, sum(loss.weight * named[loss.name] for loss in self.losses)

    def _learn_codes(self, state: TrainState, batch_means: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        """Lets the codebooks learn what they learn without gradients, and gives metrics of it.

        It is learned after the optimizer's update, of what training calls left in the collection of the same
        name. A dead code is replaced in the average of the parameters too: halfway to its new place it is no
        vector of anything, and so would stay dead in evaluation.
        """
        variables = {'params': state.params, **state.variables, BATCH_MEANS: batch_means}
        metrics, changed = self.model.apply(variables, method='after_update', mutable=[STATISTICS, REVIVALS])
        revivals, averages = changed.pop(REVIVALS, {}), state.ema_params
        state = state.replace(
            params=revive(state.params, revivals),
            ema_params=None if averages is None else revive(averages, revivals),
            variables={**state.variables, **changed},
        )
        return state, metrics

    def _at_last_kernel(self, params: Any, features: jax.Array, at_outputs: jax.Array) -> jax.Array:
        """The gradient with respect to the last kernel that one at the outputs amounts to."""
        flat = flatten_dict(params)

        def outputs(kernel: jax.Array) -> jax.Array:
            changed = unflatten_dict({**flat, LAST_KERNEL: kernel})
            return self.model.apply({'params': changed}, features, method='last')

        _, pull = jax.vjp(outputs, flat[LAST_KERNEL])
        return pull(at_outputs)[0]


def encoded_grid(
    spec: Spec, factors: Sequence[int], factors_key: str, first_apart: bool = False
) -> tuple[int, ...]:
    """The sizes of the axes of an example's vectors.

    Args:
        spec: of the examples.
        factors: by how much the encoder divides the sizes of the grid, along all axes or each.
        factors_key: what in the config sets them.
        first_apart: see `AutoencoderTask`.

    Raises:
        UserError: if the sizes cannot be divided by them.
    """
    along = per_axis(factors, spec.rank, 'strides')
    apart = (int(first_apart), *[0] * (spec.rank - 1))
    if any((size - one) % factor for size, one, factor in zip(spec.grid, apart, along, strict=True)):
        factor = 'x'.join(map(str, factors))
        without, more = (' without their first frame', ' and one frame more') if first_apart else ('', '')
        raise UserError(
            f'examples of {spec.size_in_words} cannot be divided by {factor}{without} ({factors_key}); use a '
            f'multiple of {factor}{more}, by {size_keys(spec)}.'
        )
    return tuple(
        (size - one) // factor + one for size, one, factor in zip(spec.grid, apart, along, strict=True)
    )


def check_residual(sizes: ResidualSizes, spec: Spec, section: str) -> None:
    """Raises `UserError` unless sizes, of a section of the config, are for such examples."""
    if sizes.is_of_video and spec.kind != 'video':
        raise UserError(
            f'config.{section}.temporal is {sizes.temporal} and time_strides {sizes.time_strides}, which is '
            f'for video, and these are {spec.plural}; set them to full and ().'
        )
    if sizes.temporal == 'none' and sizes.factors[0] > 1:
        key = 'time_strides' if sizes.time_strides else 'strides'
        raise UserError(
            f'config.{section}.temporal is none, and the strides divide the frames by {sizes.factors[0]}; '
            f'set those of time to 1 in config.{section}.{key}, or temporal to full or causal.'
        )


def errors(outputs: jax.Array, originals: jax.Array, spec: Spec) -> dict[str, jax.Array]:
    """How far reconstructions are from their originals, for each example [b].

    Args:
        outputs: reconstructions, about in [-1, 1] [b *grid c].
        originals: as they travel, integers [b *grid c].
        spec: of these, whose sizes may be others.

    Returns:
        'mse' and 'l1' of the outputs as they are, and of the integers that they become
        `reconstruction_metrics`. Of text, how many tokens and ends are 'predicted' and how many of them are
        'right', and how many 'bytes' it has.
    """
    if spec.kind == 'text':
        x = to_values(originals, spec)
        right = jnp.argmax(outputs, axis=-1) == jnp.argmax(x, axis=-1)
        found = {'predicted': jnp.sum(x, axis=(1, 2)), 'right': jnp.sum(x.any(-1) & right, axis=1)}
        return {**found, 'right': found['right'].astype(x.dtype), 'bytes': bytes_of(originals, spec.tokens)}
    x, rebuilt = to_float(originals), to_integers(outputs, originals.dtype)
    others = reconstruction_metrics(rebuilt, originals, spec)
    return {'mse': mean_square(outputs, x), 'l1': mean_absolute(outputs, x), **others}
