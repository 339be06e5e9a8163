"""The names that presets are composed of, so that the command line can complete them without loading torch.

`presets.py` defines what each means; a test checks that both files list the same names.
"""

DISTRIBUTION = "cltools-ssl"
"""Name of the distribution that pip installs; on the package index, "cltools" is another project."""

IMAGES = ("digits", "shapes", "cifar10", "cifar100", "tinyimagenet", "own")
"""Image sets; `own` reads a folder of the user's images."""
METHODS = (
    "simclr", "moco", "potential", "oracle", "oracle-positives", "oracle-both", "supcon", "random", "ring", "hcl",
    "debiased", "fnc", "fnc-attract", "mochi", "nnclr", "snclr", "myow", "sce", "next-nearest", "decoupled", "margin",
    "softened", "glofnd", "difficult",
)  # fmt: skip
"""Methods, in the order of docs/methods.md."""
