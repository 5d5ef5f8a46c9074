"""What each metric of the catalogue is, what it is not, how large its error is, and where it is defined.

A text under a name without a split, such as `elbo`, is for all splits that have no text of their own.
"""

from typing import NamedTuple


class About(NamedTuple):
    """One to four sentences, and the paper with the equation or section, or "" if there is none."""

    text: str
    source: str = ""


_CROSS_ENTROPY = "For grey pixels under a Bernoulli likelihood it is a cross-entropy and no likelihood."
_ELBO = "Kingma & Welling 2014, eq. 3"
_HOFFMAN = "Hoffman & Johnson 2016, eq. 7"
_BURDA = "Burda et al. 2015, eq. 8"
_OPTIMUM = "Rybkin et al. 2021, eq. 8"
_FID, _KID = "Heusel et al. 2017, eq. 6", "Binkowski et al. 2018, eq. 4"
_PRECISION, _DENSITY = "Kynkäänniemi et al. 2019, eq. 2", "Naeem et al. 2020, sec. 3.2"
_COMPARES = (
    "Only scores of the same features and the same number of images compare, and neither is 0 for a perfect model"
)
_DCI = "Eastwood & Williams 2018, sec. 2"
_OF_MEANS = "It is computed from the means mu of at most 10,000 test images."
_BOOSTED = "The importances are those of gradient boosted trees."
_DRAWN = "Such images are drawn among the test images."

# What precision, recall, density and coverage are, and the images that they compare with test images.
_BALLS = {
    "precision": (
        "Precision of {images}: the share of them in the ball of at least one test image, which reaches to its 3rd "
        "nearest test image. A perfect model has the floor's value; typical images alone may have more.",
        _PRECISION,
    ),
    "recall": (
        "Recall of {images}: the share of test images in the ball of at least one of them, which reaches to the 3rd "
        "nearest of them. It says little where the precision is low: images far from all others have large balls.",
        _PRECISION,
    ),
    "density": (
        "Density of {images}: the number of test images' balls, up to the 5th nearest test image, that one of them is "
        "in, over 5, on average. It is about 1 for images of the same distribution, and more for typical ones alone.",
        _DENSITY,
    ),
    "coverage": (
        "Coverage of {images}: the share of test images with at least one of them in the ball, up to the 5th nearest "
        "test image. It is about 0.97 for as many images of the same distribution.",
        _DENSITY,
    ),
}
_COMPARED = {
    "prior": "samples from the prior",
    "reconstruction": "reconstructions at z = mu",
    "mixture": "samples from a Gaussian mixture fitted to mu of training images",
    "floor": "as many training images",
}

ABOUT = {
    "beta_nats": About(
        "The weight of the KL in nats in the last step's loss, at which losses of different conventions compare. A "
        "warmup that is longer than the training does not reach the weight that was asked for."
    ),
    "sigma": About(
        "The standard deviation of a Gaussian likelihood, on the scale of the pixels that the model sees. An optimal "
        "one is the root of a running mean of the training batches' squared error, about the last ten.",
        _OPTIMUM,
    ),
    "scale": About(
        "The scale of a Laplace or discretised logistic likelihood, on the scale of the pixels that the model sees."
    ),
    "num_params": About("The number of trained weights."),
    "elbo": About(f"log p(x|z) - KL at beta = 1, with one posterior sample per image. {_CROSS_ENTROPY}", _ELBO),
    "log_px": About(f"log p(x|z) with all constants, with one posterior sample per image. {_CROSS_ENTROPY}", _ELBO),
    "kl": About("KL(q(z|x) || p(z)), averaged over the images, in closed form.", "Kingma & Welling 2014, eq. 10"),
    "train/elbo": About(
        "log p(x|z) - KL at beta = 1, with one posterior sample per image. In the table it is that of the trained "
        f"model, in rows the average over the batches since the last row. {_CROSS_ENTROPY}",
        _ELBO,
    ),
    "test/elbo": About(
        "log p(x|z) - KL at beta = 1, a lower bound of log p(x), with evaluation.elbo_samples posterior samples per"
        f" image. test/elbo_se is the error of these draws. {_CROSS_ENTROPY}",
        _ELBO,
    ),
    "test/elbo_se": About(
        "The standard error of the draws in test/elbo and test/log_px, for these images. It does not say how the "
        "number varies with other images or other seeds. It needs evaluation.elbo_samples above 1."
    ),
    "test/log_px": About(
        f"log p(x|z) with all constants, averaged over evaluation.elbo_samples posterior samples. {_CROSS_ENTROPY}",
        _ELBO,
    ),
    "bits_per_dim": About(
        "-elbo / (D ln 2), where D is the number of pixel values. It is left empty for densities such as the "
        f"Gaussian, where it depends on the scale of the pixels. {_CROSS_ENTROPY}"
    ),
    "test/active_units": About(
        "Latents whose posterior mean has a variance above 0.01 over the images. At beta = 0 nothing fixes the "
        "scale of the codes, so there the number says little.",
        "Burda et al. 2015, sec. 5.2",
    ),
    "test/iwae": About(
        "A lower bound of log p(x) that rises with evaluation.iwae_samples, so only equal numbers of samples "
        "compare. It is marked if a single weight dominates in more than a fifth of the images: it may then lie far"
        f" below log p(x). {_CROSS_ENTROPY}",
        _BURDA,
    ),
    "test/iwae_se": About(
        "The standard error of the draws in test/iwae, for these images and this number of samples, by a jackknife "
        "over ten groups of samples. It does not contain the distance of the bound to log p(x), which is often "
        "larger.",
        "Efron & Stein 1981",
    ),
    "test/iwae_ess": About(
        "(sum w)^2 / sum w^2 of an image's importance weights, averaged over the images, from 1 to the number of "
        "samples. A small one says that the bound is loose; a large one does not prove that it is tight, since "
        "weights say nothing of where q(z|x) has no samples.",
        "Kong 1992",
    ),
    "test/iwae_dominated": About(
        "The share of images whose effective sample size is below 2. One weight then has more than half of the sum."
    ),
    "test/mi": About(
        "I(x; z) for N equally likely test images, which is at most ln N: a lower bound of the information that z "
        "has of images of their distribution. It is marked if it is less than 1 nat below ln N, where N limits it.",
        _HOFFMAN,
    ),
    "test/mi_at_limit": About(
        "Whether test/mi is less than 1 nat below ln N. The test/marginal_kl is then too large by about half a nat "
        "or more.",
        "McAllester & Stratos 2020",
    ),
    "test/marginal_kl": About(
        "KL(q(z) || p(z)), where q(z) is the aggregate posterior of the N test images: test/kl - test/mi. For the "
        "images' distribution it is an upper bound that falls as N grows, and at least test/kl - ln N whatever the "
        "model. It is marked where test/mi is.",
        _HOFFMAN,
    ),
    "test/marginal_kl_lower": About(
        "A lower bound of KL(q(z) || p(z)): of the mismatch, what a Gaussian with the mean and covariance of the "
        "training images' z shows. It is near 0 or negative if it shows none.",
        "Barber & Agakov 2003",
    ),
    "test/marginal_kl_upper": About(
        "The upper bound test/marginal_kl with more images: q(z) is the mixture of the training images' posteriors "
        "(evaluation.max_fit_images) and the test image's own. It takes training images as new ones, which an "
        "overfitted encoder does not.",
        "van den Oord et al. 2018",
    ),
    "test/collapsed": About(
        "Whether there is no active unit, or reconstructions at z = mu explain less than 1 % of the variance of the"
        " images."
    ),
    "test/psnr": About("-10 log10 of the mean squared error of reconstructions at z = mu, pixels in [0,1]."),
    "test/ssim": About(
        "The structural similarity of reconstructions at z = mu, averaged over all windows of 11 pixels inside the "
        "image.",
        "Wang et al. 2004, eq. 13",
    ),
    "probe/accuracy": About(
        "Test accuracy of a logistic regression from the standardised mu. It ignores sigma, so it shows what the "
        "encoder computes, even if z does not carry it: a collapsed model can score high.",
        "Alain & Bengio 2017",
    ),
    "probe/samples": About(
        "Test accuracy of a logistic regression from one z = mu + sigma eps per image. It is bounded by the "
        "information in z: at most the largest class's share + sqrt(I / 2), but for the noise of the test labels.",
        "Pinsker's inequality; Cover & Thomas 2006, lemma 11.6.1",
    ),
    "probe/pixels": About("Test accuracy of a logistic regression from the pixels. It is the same for all models."),
    "neighbour/distance": About(
        "The mean L2 distance of prior samples to the nearest training image, pixels in [0,1]. Blurred samples are "
        "near."
    ),
    "neighbour/ratio": About(
        "neighbour/distance over the same distance of test images. Well below 1, samples are copies or blurred "
        "averages."
    ),
    "factors/mig": About(
        "For each factor, the mutual information with the latent that tells most of it minus that with the next, over "
        f"the factor's entropy; averaged over the factors, from 0 to 1. {_OF_MEANS}",
        "Chen et al. 2018, eq. 6",
    ),
    "factors/sap": About(
        "For each factor, the balanced accuracy of thresholds on the latent that predicts its class best, minus that "
        "of the next latent; averaged over the factors. With C classes, a latent of noise has an accuracy of 1/C, so "
        f"the maximum is the mean of 1 - 1/C. {_OF_MEANS}",
        "Kumar et al. 2018, sec. 3",
    ),
    "factors/dci_disentanglement": About(
        f"How far each latent is important for one factor only, from 0 to 1. {_BOOSTED} {_OF_MEANS}", _DCI
    ),
    "factors/dci_completeness": About(
        f"How far one latent only is important for each factor, from 0 to 1. {_BOOSTED} {_OF_MEANS}", _DCI
    ),
    "factors/dci_informativeness": About(
        "The share of the variance of the factors' class numbers that all latents together predict in images that the "
        "regressor was not fitted to; 1 is all of it, and a negative value is worse than the mean. It does not ask "
        f"whether the latents are disentangled. {_OF_MEANS}",
        _DCI,
    ),
    "factors/factorvae": About(
        "The accuracy with which the latent that varies least among images with one equal factor tells which factor it "
        f"is; about 1/F by chance, with F factors. {_DRAWN} {_OF_MEANS}",
        "Kim & Mnih 2018, sec. 4",
    ),
    "factors/betavae": About(
        "The accuracy with which logistic regression tells from the mean differences within pairs of images which "
        f"factor is equal in them; about 1/F by chance, with F factors. Rotated codes may score high. {_DRAWN}",
        "Higgins et al. 2017, sec. 3",
    ),
    "factors/modularity": About(
        "How far each latent has information on one factor only, from 0 to 1, averaged over all latents. Latents of "
        "noise count as much as others, and get 0 only if all factors have equally many classes and the images are "
        f"many. {_OF_MEANS}",
        "Ridgeway & Mozer 2018, eq. 2",
    ),
    "fid/*/prior": About(f"FID of samples from the prior against test images. {_COMPARES}.", _FID),
    "fid/*/reconstruction": About(
        f"FID of reconstructions at z = mu against their own originals, so it may be below the floor. {_COMPARES}.",
        _FID,
    ),
    "fid/*/mixture": About(
        f"FID of samples from a Gaussian mixture fitted to mu of training images. {_COMPARES}.",
        f"{_FID}; Ghosh et al. 2020, sec. 4",
    ),
    "fid/*/floor": About("FID of as many training images: no model can be seen to be better.", _FID),
    "kid/*/prior": About(
        "KID of samples from the prior against test images, without bias, so it may be negative.", _KID
    ),
    "kid/*/reconstruction": About("KID of reconstructions at z = mu against their own originals.", _KID),
    "kid/*/mixture": About(
        "KID of samples from a Gaussian mixture fitted to mu of training images.", f"{_KID}; Ghosh et al. 2020, sec. 4"
    ),
    "kid/*/floor": About("KID of as many training images; 0 on average.", _KID),
    **{
        f"prdc/*/{name}/{kind}": About(text.format(images=images), source)
        for name, (text, source) in _BALLS.items()
        for kind, images in _COMPARED.items()
    },
    "step": About("Steps of the optimiser that were done."),
    "time_s": About(
        "The point's share of its pack's training time, without the evaluation, on each of its devices. What a killed "
        "job did after its last checkpoint is not in it."
    ),
    "gpu_s": About(
        "time_s times the number of GPUs that trained the point together; empty on CPUs. If the point resumed on "
        "another number, the last one counts."
    ),
    "core_s": About(
        "time_s times the number of threads of the processes that trained the point together; empty on GPUs. If the "
        "point resumed on another number, the last one counts."
    ),
    "images_per_s": About("Training images per second of the pack, each once for each of its points."),
    "git_commit": About("The commit of the code that trained the point."),
    "train/loss": About("The training loss in its own convention, averaged over the batches since the last row."),
    "val/loss": About("The same loss on the validation split, with the weights of the last step."),
    "val/kl_per_latent": About("val/kl of each latent.", "Kingma & Welling 2014, eq. 10"),
    "distortion": About("-log p(x|z), the vertical axis of rate-distortion plots.", "Alemi et al. 2018, eq. 4"),
    "train/level": About(
        "beta sigma^2, which alone decides where training with a Gaussian likelihood is optimal.", "Lucas et al. 2019"
    ),
    "squared_error": About(
        "The squared error of reconstructions at posterior samples, from the Gaussian log p(x|z), summed over the "
        "pixels."
    ),
    "best_sigma": About("The sigma with the largest log p(x|z) for this squared error.", _OPTIMUM),
    "best_elbo": About("The ELBO of the same networks if sigma were the best for this split's error.", _OPTIMUM),
}


def about(name: str) -> About:
    """The text of the metric `name`; KeyError if there is none."""
    if name.startswith("extra/"):
        return About(
            "A metric of the user's own. The run's result.json names its function and keys, under `evaluated`."
        )
    return ABOUT[name] if name in ABOUT else ABOUT[name.partition("/")[2]]
