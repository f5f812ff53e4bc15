"""Class accuracy of drawn pictures (GAN-test): how often a picture shows the class of what was described.

A classifier that real training photographs were fitted on names the class of every drawn picture; counted is
the share that bears the class of the photograph described. Real test photographs give the ceiling, shuffled
utterances the floor, which lies at about the share of the largest classes.

Source: Shmelkov, Schmid and Alahari, "How good is my GAN?" (ECCV 2018), section 3, under the name GAN-test;
GAN-train there, and the Classification Accuracy Score of Ravuri and Vinyals (NeurIPS 2019), are the reverse:
a classifier fitted on drawn pictures that names real ones.

Known pitfalls:
- The classifier must know the classes that are tested: zero-shot sets (Oxford-102, CUB) have no such figure.
- A picture of a class is enough: one picture a class, over and over, scores 1. Read it beside recall.
- A classifier of few classes needs little of a picture; clear pictures without detail may score above real
  photographs.
"""

from speech2image.metrics.estimate import Estimate, Sample
from speech2image.metrics.picture_sets import PictureSets


def class_accuracy(sets: PictureSets) -> Estimate:
    """Share of pictures to which a classifier of the classes tested gives that of what was described."""
    assert sets.classifier is not None
    pictures = sets.classified
    named = sets.classes[sets.classifier.probabilities(pictures.features).argmax(axis=1)]
    return Sample(pictures.owners, sets.seed, sets.resamples).mean(named == pictures.labels)
