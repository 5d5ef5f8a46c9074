from .images import check_dataset as check_dataset
from .networks import check_architecture as check_architecture
from .pixels import check_likelihood as check_likelihood
