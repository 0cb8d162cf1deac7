"""What the distance from the base model says, in a sentence: for notebooks, the app and reports."""

import math


def distance_words(nats: float) -> str:
    """What a kl_from_base of so many nats per token means.

    KL(base || model) is the mean of log(p_base / p_model) over what the base would say, so exp(-KL) is the factor on
    the probability of these words, as a geometric mean.
    """
    kept = math.exp(-nats)
    share = f"{100 * kept:.0f}%" if kept >= 0.01 else f"{100 * kept:.1g}%"
    return (
        f"Distance from the original: {nats:.3f} nats per token. Where the base model would go on in its own words, "
        f"this one gives them {share} of the probability they had. The larger the distance, the more of what the base "
        "could do is likely forgotten; of two runs that learnt the same, the nearer one forgot less."
    )
