"""Encoders for small images: backbone, projection head, predictor, and the momentum copy that makes keys."""

from cltools.encoders.encoder import Encoder, EncoderSettings, build_encoder
from cltools.encoders.momentum import MomentumCopy
from cltools.encoders.norm import GroupedBatchNorm
