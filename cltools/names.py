"""The names that presets are made of, for a command line that answers without loading torch.

`presets.py` says what each means; a test holds that both name the same.
"""

DISTRIBUTION = "cltools-ssl"
"""What pip installs; on the package index, cltools is another project."""

IMAGES = ("digits", "shapes", "cifar10", "cifar100", "tinyimagenet", "own")
"""Sets of images; `own` are those of a folder."""
METHODS = (
    "simclr", "moco", "potential", "oracle", "oracle-positives", "oracle-both", "supcon", "random", "ring", "hcl",
    "debiased", "fnc", "fnc-attract", "mochi", "nnclr", "snclr", "myow", "sce", "next-nearest", "decoupled", "margin",
    "softened", "glofnd", "difficult",
)  # fmt: skip
"""Methods, in the order of docs/methods.md."""
