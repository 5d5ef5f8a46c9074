from .bernoulli import Bernoulli as Bernoulli
from .continuous_bernoulli import ContinuousBernoulli as ContinuousBernoulli
from .discretized_logistic import DiscretizedLogistic as DiscretizedLogistic
from .gaussian import Gaussian as Gaussian
from .laplace import Laplace as Laplace
