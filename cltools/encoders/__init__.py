"""Encoders for small images: backbone, projection head, predictor, and the momentum copy that makes keys."""

from cltools.encoders.backbones import GroupedBatchNorm
from cltools.encoders.encoder import Encoder, EncoderSettings, MomentumCopy, build_encoder
