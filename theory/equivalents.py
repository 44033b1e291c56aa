"""Gaussian equivalents of a task with labels ±1: the same classes with their first moments alone (theory §7).

Order 0 keeps nothing (both classes white noise: the null), order 1 the mean of ξ in each class, order 2 mean and covariance,
the u–v block included. A network's test errors on them say up to which order it has understood the task.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory.errors import require
from theory.laws import Task, has_classes
from theory.networks import symmetric_root

Array = NDArray[np.float64]
LABELS = (-1.0, 1.0)
ORDERS = (0, 1, 2)


@dataclass(frozen=True)
class ClassMoments:
    """Probability (2,), mean (2, r) and covariance (2, r, r) of ξ in the classes y = -1, +1."""

    probability: Array
    mean: Array
    covariance: Array


def class_moments(task: Task) -> ClassMoments:
    """The moments by quadrature over the task's latents. Raises InputError if the labels are not ±1."""
    require(has_classes(task), "task", task.name, "tasks with labels ±1", "others have no Gaussian equivalents")
    mixture = task.mixture()
    signs = np.array(LABELS)[:, None]
    weight = mixture.weight * (1 + signs * mixture.label_powers[:, 1]) / 2
    probability = weight.sum(axis=1)
    weight /= probability[:, None]
    mean = weight @ mixture.mean
    centred = mixture.mean - mean[:, None, :]
    covariance = np.einsum("cq,cqa,cqb->cab", weight, centred, centred)
    covariance += np.einsum("cq,qa,ab->cab", weight, mixture.variance, np.eye(mean.shape[1]))
    return ClassMoments(probability, mean, covariance)


@dataclass(frozen=True)
class GaussianEquivalent:
    """ξ | y ~ N(mean, covariance) of the task up to ``order``; beyond it mean 0, covariance 1.

    Raises InputError for a task without labels ±1 and for an order that is not 0, 1 or 2.
    """

    task: Task
    order: int

    def __post_init__(self) -> None:
        """Check the order and the labels."""
        require(self.order in ORDERS, "order", self.order, "0, 1 or 2")
        self.moments  # noqa: B018 - checks the labels

    @property
    def moments(self) -> ClassMoments:
        """Probabilities, means and covariances of the two classes."""
        own = class_moments(self.task)
        mean = own.mean if self.order >= 1 else np.zeros_like(own.mean)
        covariance = own.covariance if self.order == 2 else np.broadcast_to(np.eye(mean.shape[1]), own.covariance.shape)
        return ClassMoments(own.probability, mean, covariance)

    def projections(self, y: Array, z: Array) -> Array:
        """ξ (n, r) = mean + covariance^½ z for labels y (n,) and standard normals z (n, r)."""
        moments = self.moments
        # The symmetric root: where the covariance is 1, ξ - mean is z itself, the noise of the task.
        roots = symmetric_root(moments.covariance)
        planted = (y > 0).astype(int)
        return np.asarray(moments.mean[planted] + np.einsum("nab,nb->na", roots[planted], z))
