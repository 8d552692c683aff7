"""medreward: training rewards and grades for free-form medical answers, over HTTP.

Rewards and grades are for research and training, not for clinical use.
"""

__version__ = "0.1.0"
NOTICE = "Rewards and grades are for research and training, not for clinical use."
