"""Networks by name, your own callables, and weights from local files."""

from imbsam.models.classifier import CosineClassifier as CosineClassifier
from imbsam.models.finetune import FineTune as FineTune
from imbsam.models.imported import is_user_code as is_user_code
from imbsam.models.layers import Norm as Norm
from imbsam.models.mlp import MLP as MLP
from imbsam.models.registry import MODELS as MODELS
from imbsam.models.registry import build as build
from imbsam.models.resnet import ResNet as ResNet
from imbsam.models.weights import load_weights as load_weights
