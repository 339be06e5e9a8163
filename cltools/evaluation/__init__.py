"""Evaluation of encoders and diagnosis of selections. Labels are read here, but never steer training."""

from cltools.evaluation.diagnosis import Diagnosis, diagnose, hubness, mined_purity_by_k, same_class_by_rank, self_hits
from cltools.evaluation.embed import accuracy, bare, confusion, embed, known_of, per_class
from cltools.evaluation.features import alignment, effective_rank, knn_accuracy, knn_predict, linear_probe, uniformity
from cltools.evaluation.intervals import Share, share_of
from cltools.evaluation.report import PROTOCOLS, Predictions, Recipes, evaluate, limited, predict
from cltools.evaluation.seeds import check_seeds, figures, over_seeds, spread
from cltools.evaluation.trained import FinetuneRecipe, LinearRecipe, finetune, fit_linear, linear_predict
