"""ImbSAM in a skorch classifier, and scikit-learn's search for its rho by balanced accuracy."""

import torch
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import GradientNormClipping

from digits import BATCH_SIZE, EPOCHS, network, rare_digits
from imbsam import ImbSAM
from imbsam.integrations.skorch import SharpnessAwareMixin

DATASET, TAIL = rare_digits()


class SharpNet(SharpnessAwareMixin, NeuralNetClassifier):
    """The classifier with the passes in its ``train_step``."""


def imbsam(params: object, lr: float, rho: float = 0.1) -> ImbSAM:
    return ImbSAM(torch.optim.SGD(params, lr=lr, momentum=0.9), TAIL, rho=rho)


def classifier() -> SharpNet:
    return SharpNet(
        network,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=imbsam,
        lr=0.3,
        max_epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        train_split=None,
        callbacks=[GradientNormClipping(1.0)],
        verbose=0,
    )


def main() -> GridSearchCV:
    x, y = (tensor.numpy() for tensor in DATASET.tensors)
    search = GridSearchCV(classifier(), {"optimizer__rho": [0.0, 0.1, 0.2]}, scoring="balanced_accuracy", cv=2)
    search.fit(x, y)
    for settings, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        print(settings, f"balanced accuracy {score:.2f}")
    return search


if __name__ == "__main__":
    main()
