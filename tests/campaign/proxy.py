"""F4, F8, F12, F21: a network that cuts, stalls and crumbles on all three sides of the bridge.

As many tasks are in doubt as calls for one whose answer the proxy did not hand over whole.
"""

import random
import time

from tests.campaign.fault_proxy import FaultProxy, draw
from tests.campaign.kill import concluded
from tests.campaign.letters import Ward
from tests.campaign.results import Result, Say
from tests.campaign.stage import staged
from tests.campaign.wards import Sender, end

WARDS = 8
PATIENCE = 4.0
"""Seconds that a sender waits for its answer."""
TIMEOUT = 6.0
"""Seconds that the bridge waits for the API's."""


def run(seed: int, minutes: float, say: Say) -> Result:
    """One round."""
    began = time.monotonic()
    dice = {side: random.Random(f"{seed}/{side}") for side in ("api", "hl7", "dicom")}
    with staged("proxy", BRIDGE_CARDIO__TIMEOUT=str(TIMEOUT), BRIDGE_HL7__REPLY_BUDGET="2") as stage:
        proxies = {
            "api": FaultProxy(stage.api.address, lambda: draw(dice["api"], share=0.15, most=1500, stall=TIMEOUT)),
            "hl7": FaultProxy(stage.hl7, lambda: draw(dice["hl7"], share=0.6, most=3000, stall=PATIENCE)),
            "dicom": FaultProxy(stage.dicom, lambda: draw(dice["dicom"], share=0.4, most=6000, stall=PATIENCE)),
        }
        host, port = proxies["api"].address
        stage.environment["BRIDGE_CARDIO__BASE_URL"] = f"http://{host}:{port}"
        hl7, dicom = proxies["hl7"].address, proxies["dicom"].address
        senders = [Sender(Ward(f"W{n}", seed), hl7, dicom, patience=PATIENCE) for n in range(WARDS)]
        for proxy in proxies.values():
            proxy.start()
        stage.start()
        for sender in senders:
            sender.start()
        time.sleep(minutes * 60)
        end(senders)
        verdict = concluded(stage, senders, say, doubts=lambda _: cut_off(proxies["api"]))
        for proxy in proxies.values():
            proxy.end()
    verdict.counts["connections"] = sum(proxy.connections for proxy in proxies.values())
    verdict.counts["struck"] = sum(proxy.struck for proxy in proxies.values())
    verdict.counts["messages"] = sum(len(sender.sent) for sender in senders)
    return Result("proxy", seed, dict(verdict.counts), time.monotonic() - began)


def cut_off(proxy: FaultProxy) -> int:
    """Answers that it did not hand over; what it still has in hand is over with it."""
    proxy.end()
    return proxy.lost
