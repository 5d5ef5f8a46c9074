from .analysis.table import results as results
from .evaluation.model import load as load
