import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from jmeta.gaussian import Gaussian, negative_log_likelihood


def test_the_likelihood_is_that_of_scipy():
    mean, variance = np.array([0.0, 1.0, -3.0]), np.array([1.0, 0.01, 7.0])
    y = np.array([0.5, 1.1, 9.0])
    prediction = Gaussian(mean=jnp.asarray(mean), variance=jnp.asarray(variance))
    found = negative_log_likelihood(prediction, jnp.asarray(y))
    wanted = -norm(mean, np.sqrt(variance)).logpdf(y)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
