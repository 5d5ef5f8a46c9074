"""Columns that a full evaluation adds to a table, and the kinds of samples that it scores."""

NEW = ["test/iwae", "test/iwae_se", "test/iwae_ess", "test/iwae_dominated", "test/mi", "test/mi_at_limit"]
NEW += ["test/marginal_kl", "test/marginal_kl_lower", "test/marginal_kl_upper", "test/collapsed"]
NEW += ["probe/accuracy", "probe/samples", "probe/pixels"]
NEW += ["test/psnr", "test/ssim", "neighbour/ratio", "neighbour/distance"]
SAMPLES = ["prior", "reconstruction", "mixture", "floor"]
