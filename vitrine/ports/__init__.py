"""The seams: what a plug-in module offers. A plug-in is a module; `vitrine.plugins` finds it.

Dim names: B batch, Q queries, N gallery, K depth, D dim.
"""

from vitrine.ports.backends import Backend, Engine, GraphRows, Precision
from vitrine.ports.datasets import Importer, RawItem, Source
from vitrine.ports.families import Backbone, BackboneSpec, Family, TextTower
from vitrine.ports.indexes import Condition, Delta, Filter, Hit, Index, IndexKind, Vectors
from vitrine.ports.verdicts import Outcome, Verdict

__all__ = [
    "Backbone",
    "BackboneSpec",
    "Backend",
    "Condition",
    "Delta",
    "Engine",
    "Family",
    "Filter",
    "GraphRows",
    "Hit",
    "Importer",
    "Index",
    "IndexKind",
    "Outcome",
    "Precision",
    "RawItem",
    "Source",
    "TextTower",
    "Vectors",
    "Verdict",
]
