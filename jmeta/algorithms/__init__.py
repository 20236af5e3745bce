"""Meta-learning algorithms: what is learnt across tasks, one file each."""

from jmeta.algorithms.anil import anil
from jmeta.algorithms.bilevel import bilevel
from jmeta.algorithms.convex_head import convex_head
from jmeta.algorithms.deep_kernel import deep_kernel
from jmeta.algorithms.ensemble import EnsembleState, ensemble
from jmeta.algorithms.episodic import EpisodicInfo, EpisodicState
from jmeta.algorithms.fingerprint_kernel import deep_tanimoto
from jmeta.algorithms.imaml import imaml
from jmeta.algorithms.losses import LOSSES, MIXTURE
from jmeta.algorithms.maml import maml
from jmeta.algorithms.meta_classification import (
    MetaClassificationInfo,
    MetaClassificationState,
    MetaExamples,
    meta_classification,
)
from jmeta.algorithms.meta_optimizer import (
    MetaOptimizerInfo,
    MetaOptimizerState,
    meta_optimizer,
    query_loss,
)
from jmeta.algorithms.meta_regression import (
    MetaRegressionInfo,
    MetaRegressionState,
    MetaSettings,
    meta_regression,
)
from jmeta.algorithms.meta_sgd import meta_sgd
from jmeta.algorithms.neural_process import neural_process
from jmeta.algorithms.persistent_evolution import (
    PersistentInfo,
    PersistentState,
    persistent_evolution,
)
from jmeta.algorithms.prototypical import prototypical
from jmeta.algorithms.reptile import reptile
from jmeta.algorithms.ridge_head import ridge_head
from jmeta.algorithms.scaler import fit_scaler, standardise, unstandardise

__all__ = [
    "LOSSES",
    "MIXTURE",
    "EnsembleState",
    "EpisodicInfo",
    "EpisodicState",
    "MetaClassificationInfo",
    "MetaClassificationState",
    "MetaExamples",
    "MetaOptimizerInfo",
    "MetaOptimizerState",
    "MetaRegressionInfo",
    "MetaRegressionState",
    "MetaSettings",
    "PersistentInfo",
    "PersistentState",
    "anil",
    "bilevel",
    "convex_head",
    "deep_kernel",
    "deep_tanimoto",
    "ensemble",
    "fit_scaler",
    "imaml",
    "maml",
    "meta_classification",
    "meta_optimizer",
    "meta_regression",
    "meta_sgd",
    "neural_process",
    "persistent_evolution",
    "prototypical",
    "query_loss",
    "reptile",
    "ridge_head",
    "standardise",
    "unstandardise",
]
