"""The frozen networks in whose features sets of examples are compared."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import jax

from vq_jax.errors import UserError
from vq_jax.models.classifier import Classified
from vq_jax.models.inception import InceptionV3, Resize, variables_from_published
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.classifier import ClassifierTask
from vq_jax.tasks.restore import Restored, restore
from vq_jax.training.manifest import fingerprint
from vq_jax.training.pretrained import INCEPTION_FILES, download, read_weights


class FeatureSource(Protocol):
    """A network, and how metrics in its features are called.

    Attributes:
        prefix: what the names of its metrics begin with.
        names: of metrics that are called something else, after the prefix, than `FeatureEvaluator` does.
        splits: parts of the examples, each of which gets a score (see `vq_jax.ops.inception_score`).
        weights: what `look` is to be given.
        record: what the network is, in JSON values, for the record of an evaluation.
        identity: what statistics of references must share with it to be compared, in JSON values by a name.
        trained_on: the data set whose classes its logits are of; None if that is not one of ours.
        class_names: of these classes; None if they are not known.
    """

    prefix: str
    names: Mapping[str, str]
    splits: int
    weights: Any
    record: dict[str, Any]
    identity: dict[str, Any]
    trained_on: str | None
    class_names: ClassNames

    def look(self, weights: Any, images: jax.Array) -> Classified:
        """Features and logits of examples [b ...]."""

    def check_spec(self, run: Restored) -> None:
        """Raises `UserError` if the network cannot take the examples of a run."""


class ClassifierFeatures:
    """What the last layer of a classifier reads.

    All its names begin with 'classifier_': they compare only with those of the same classifier, whose
    checksum stands beside them, and never with those of Inception-v3.
    """

    prefix = 'classifier_'
    names = MappingProxyType({})
    splits = 1

    def __init__(self, classifier: Restored) -> None:
        """Takes a run of the task classifier; of another it raises `UserError`."""
        if not isinstance(classifier.task, ClassifierTask):
            raise UserError(
                f'{classifier.workdir} is a run of the task {classifier.config.task}; give features '
                'the directory of one of classifier.'
            )
        self._classifier = classifier
        identity = classifier.identity()
        self.weights = classifier.state.for_inference()
        self.trained_on = classifier.config.data.name
        self.class_names = classifier.class_names
        self.record = {
            'kind': 'penultimate layer of a classifier',
            'dimensions': classifier.task.model.features,
            'trained_on': self.trained_on,
            **identity,
        }
        self.identity = {'classifier': identity['checksum']}

    def look(self, weights: Any, images: jax.Array) -> Classified:
        """See `FeatureSource.look`."""
        return self._classifier.task.classify(weights, images)

    def check_spec(self, run: Restored) -> None:
        """Raises `UserError` unless the examples are such as the classifier was trained on."""
        trained = self._classifier
        if trained.spec != run.spec:
            raise UserError(
                f'{trained.workdir} was trained on {trained.spec.plural} of shape {trained.spec.shape}, and '
                f'{run.workdir} on {run.spec.plural} of {run.spec.shape}; train a classifier with the '
                'config.data of that run.'
            )


class InceptionFeatures:
    """The pool of Inception-v3 (see `vq_jax.models.inception`), in which published metrics are computed."""

    prefix = ''
    names = MappingProxyType(
        {'frechet': 'fid', 'kernel': 'kid', 'score': 'inception_score', 'score_std': 'inception_score_std'}
    )
    splits = 10  # Salimans et al. 2016 (arXiv:1606.03498), section 4
    trained_on = None
    class_names = None

    def __init__(self, file: str | None = None, resize: Resize = 'bilinear') -> None:
        """Reads a file of the published weights; None finds or downloads them.

        Raises:
            UserError: if they cannot be had, or are of another network.
        """
        otherwise = 'name your own file by --features=inception:FILE'
        found = read_weights([file] if file else download(INCEPTION_FILES, otherwise), otherwise)
        self.weights = variables_from_published(found.arrays)
        self._model = InceptionV3(resize)
        checksum = fingerprint(self.weights)
        identity = {'dimensions': 2048, 'resize': resize, 'checksum': checksum}
        self.record = {'kind': 'pool of Inception-v3', **identity, 'weights': found.checksums}
        self.identity = {'inception': identity}

    def look(self, weights: Any, images: jax.Array) -> Classified:
        """See `FeatureSource.look`; the logits are those without the bias of the last layer.

        The published code of Salimans et al. 2016 computes the Inception score so, and torch-fidelity too.
        """
        seen = self._model.apply(weights, images)
        return seen.replace(logits=seen.logits - weights['params']['fc']['bias'])

    def check_spec(self, run: Restored) -> None:
        """Raises `UserError` unless they are images."""
        if run.spec.kind != 'image':
            raise UserError(
                f'{run.workdir} was trained on {run.spec.kind}, and Inception-v3 takes images; give features '
                'the run of a classifier of such.'
            )


def open_features(name: str, resize: Resize | None = None) -> FeatureSource:
    """The network that a user names (see `features` and `resize` of `vq_jax.Run.compare`).

    Raises:
        UserError: if it cannot be had.
    """
    kind, _, file = name.partition(':')
    if kind == 'inception':
        return InceptionFeatures(file or None, resize or 'bilinear')
    if not Path(name).is_dir():
        raise UserError(f'the features are {name!r}; give inception or the directory of a classifier.')
    if resize:
        raise UserError('resize is for the features inception; leave it out.')
    return ClassifierFeatures(restore(name))
