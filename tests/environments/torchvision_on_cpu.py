"""Let torchvision's usual wheel, which is built for CUDA, be imported beside a torch without CUDA.

Its compiled part cannot load there, and `import torchvision` then ends with "operator torchvision::nms does not
exist". The models served here need torchvision's transforms and never that operator: it is enough to declare it.
`build.sh` puts this module into an environment together with a ``.pth`` file that imports it in every process; it does
nothing until torchvision is imported.
"""

import sys
from importlib.abc import MetaPathFinder

_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _DeclareOperators(MetaPathFinder):
    """Finds nothing; hears of torchvision's first import."""

    library = None  # the declarations last as long as this object

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None and torch.version.hip is None:
                _DeclareOperators.library = torch.library.Library("torchvision", "DEF")
                for name in _OPERATORS:
                    self.library.define(name + _SIGNATURE)


sys.meta_path.insert(0, _DeclareOperators())
