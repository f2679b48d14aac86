"""The contracts of substrates, rules and chips as programs, to be run on one of your own. Provisional.

They check every contract and list all that are broken; the first two on networks that they bring along, or on yours.
Those are of LIF neurons, and for substrates `structured()`: AdEx neurons and compartments; a rule for those is tried on
it where it is given. `check_substrate` and `check_chip` return what is refused as such, here nothing:

>>> from spikeloop import EventProp, Ideal, Twin
>>> from spikeloop.conformance import check_chip, check_rule, check_substrate, structured
>>> check_substrate(Ideal())
()
>>> check_substrate(Ideal(step=1e-4), structured())
()
>>> check_rule(EventProp())
>>> check_chip(Twin(7))
()
"""

from spikeloop.conformance.cases import Breach, ConformanceError, structured
from spikeloop.conformance.chip import check_chip
from spikeloop.conformance.rule import check_rule
from spikeloop.conformance.substrate import check_substrate

__all__ = ["Breach", "ConformanceError", "check_chip", "check_rule", "check_substrate", "structured"]
