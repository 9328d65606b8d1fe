"""The frozen networks in whose features sets of examples are compared."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from vq_jax.buckets import is_address
from vq_jax.errors import UserError
from vq_jax.models import i3d
from vq_jax.models.classifier import Classified
from vq_jax.models.inception import InceptionV3, Resize, variables_from_published
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.classifier import ClassifierTask
from vq_jax.tasks.restore import Restored, restore
from vq_jax.training.manifest import fingerprint
from vq_jax.weights import INCEPTION_FILES, download, read_weights

INCEPTION_NAMES = MappingProxyType(
    {'frechet': 'fid', 'kernel': 'kid', 'score': 'inception_score', 'score_std': 'inception_score_std'}
)

I3D_NAMES = MappingProxyType({'frechet': 'fvd', 'kernel': 'kvd', 'score': 'i3d_score'})

# Keys of `config.data` that say what the classes of examples are, and not which examples.
LABELLING = ('label_key', 'name_pattern', 'name_key')


@dataclasses.dataclass(frozen=True)
class FeatureSource:
    """A network, and how metrics in its features are called.

    Attributes:
        look: takes `weights` and examples [b ...], and gives their features and logits.
        check_spec: raises `UserError` if the network cannot take the examples of a run.
        weights: what `look` is to be given.
        record: what the network is, in JSON values, for the record of an evaluation.
        identity: what statistics of references must share with it to be compared, in JSON values by a name.
        prefix: what the names of its metrics begin with.
        names: of metrics that are called something else, after the prefix, than `FeatureEvaluator` does.
        splits: parts of the examples, each of which gets a score (see `vq_jax.ops.inception_score`).
        trained_on: the data set whose classes its logits are of; None if that is not one of ours.
        labelling: values of the keys `LABELLING` of its `config.data`, by which these classes are found.
        class_names: of these classes; None if they are not known.
    """

    look: Callable[[Any, jax.Array], Classified]
    check_spec: Callable[[Restored], None]
    weights: Any
    record: dict[str, Any]
    identity: dict[str, Any]
    prefix: str = ''
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    splits: int = 1
    trained_on: str | None = None
    labelling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    class_names: ClassNames = None


def classifier_features(classifier: Restored) -> FeatureSource:
    """What the last layer of a classifier reads, of a run of that task; of another it raises `UserError`.

    All its names begin with 'classifier_': they compare only with those of the same classifier, whose
    checksum stands beside them, and never with those of Inception-v3.
    """
    if not isinstance(classifier.task, ClassifierTask):
        raise UserError(
            f'{classifier.workdir} is a run of the task {classifier.config.task}; give features '
            'the directory of one of classifier.'
        )

    def check_spec(run: Restored) -> None:
        if dataclasses.replace(run.spec, tokens=None) != dataclasses.replace(classifier.spec, tokens=None):
            raise UserError(
                f'{classifier.workdir} was trained on {classifier.spec.plural} of shape '
                f'{classifier.spec.shape}, and {run.workdir} on {run.spec.plural} of {run.spec.shape}; train '
                'a classifier with the config.data of that run.'
            )

    identity, dimensions = classifier.identity(), classifier.task.model.features
    trained_on = classifier.config.data.name
    made = {'kind': 'penultimate layer of a classifier', 'dimensions': dimensions, 'trained_on': trained_on}
    return FeatureSource(
        look=classifier.task.classify,
        check_spec=check_spec,
        weights=classifier.state.for_inference(),
        record={**made, **identity},
        identity={'classifier': identity['checksum']},
        prefix='classifier_',
        trained_on=trained_on,
        labelling={key: classifier.config.data[key] for key in LABELLING},
        class_names=classifier.class_names,
    )


def inception_features(file: str | None = None, resize: Resize = 'bilinear') -> FeatureSource:
    """The pool of Inception-v3 (see `vq_jax.models.inception`), in which published metrics are computed.

    Its weights are those of a file of the published ones, which None finds or downloads. Logits are without
    the bias of the last layer: the published code of Salimans et al. 2016 computes the Inception score so,
    and torch-fidelity too.

    Raises:
        UserError: if they cannot be had, or are of another network.
    """
    otherwise, model = 'name your own file by --features=inception:FILE', InceptionV3(resize)
    found = read_weights([file] if file else download(INCEPTION_FILES, otherwise))
    weights = variables_from_published(found.arrays)
    identity = {'dimensions': 2048, 'resize': resize, 'checksum': fingerprint(weights)}

    def look(weights: Any, images: jax.Array) -> Classified:
        seen = model.apply(weights, images)
        return seen.replace(logits=seen.logits - weights['params']['fc']['bias'])

    return FeatureSource(
        look=look,
        check_spec=_check_images,
        weights=weights,
        record={'kind': 'pool of Inception-v3', **identity, 'weights': found.checksums},
        identity={'inception': identity},
        names=INCEPTION_NAMES,
        splits=10,  # Salimans et al. 2016 (arXiv:1606.03498), section 4
    )


def _check_images(run: Restored) -> None:
    if run.spec.kind != 'image':
        raise UserError(
            f'{run.workdir} was trained on {run.spec.kind}, and Inception-v3 takes images; give features '
            'the run of a classifier of such.'
        )


def i3d_features(file: str) -> FeatureSource:
    """The logits of I3D (see `vq_jax.models.i3d`), in which the Fréchet video distance is computed.

    Raises:
        UserError: if its weights are not in the file.
    """
    found = read_weights([file])
    weights = i3d.variables_from_published(found.arrays)
    identity = {'dimensions': i3d.CLASSES, 'resize': 'bilinear', 'checksum': fingerprint(weights)}
    return FeatureSource(
        look=i3d.I3D().apply,
        check_spec=_check_videos,
        weights=weights,
        record={'kind': 'logits of I3D', **identity, 'weights': found.checksums},
        identity={'i3d': identity},
        names=I3D_NAMES,
    )


def _check_videos(run: Restored) -> None:
    if run.spec.kind != 'video' or run.spec.shape[0] < i3d.LEAST_FRAMES:
        raise UserError(
            f'{run.workdir} was trained on {run.spec.kind} of {run.spec.size_in_words}, and I3D takes videos '
            f'of {i3d.LEAST_FRAMES} frames or more; give features the run of a classifier of such.'
        )


def open_features(name: str, resize: Resize | None = None, of: Restored | None = None) -> FeatureSource:
    """The network that a user names (see `features` and `resize` of `vq_jax.Run.compare`).

    Args:
        name: of the network.
        resize: of images, for Inception-v3.
        of: the run that it is for; no weights are downloaded for one that it cannot take.

    Raises:
        UserError: if it cannot be had.
    """
    kind, _, file = name.partition(':')
    if resize and kind != 'inception':
        raise UserError('resize is for the features inception; leave it out.')
    if kind == 'inception':
        if of is not None:
            _check_images(of)
        return inception_features(file or None, resize or 'bilinear')
    if kind == 'i3d':
        if not file:
            raise UserError('the weights of I3D are not downloaded; give features i3d:FILE.')
        if of is not None:
            _check_videos(of)
        return i3d_features(file)
    if not is_address(name) and not Path(name).is_dir():
        raise UserError(
            f'the features are {name!r}; give inception, i3d:FILE or the directory of a classifier.'
        )
    return classifier_features(restore(name))
