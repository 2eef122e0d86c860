"""The HL7 messages of the benchmark: of the size and the fields that hospitals send, all of them invented."""


def order(number: int, lane: int) -> bytes:
    """An ORM^O01 of 16 segments and about 1 KB. Each has a number of its own; fifty patients a lane."""
    own = f"B{lane}N{number}"
    lines = (
        f"MSH|^~\\&|HIS|BENCH|CARDIO|BRIDGE|20260301120000+0100||ORM^O01|{own}|P|2.3.1|||AL|NE",
        f"PID|1||{lane}{number % 50:03}^^^BENCH^MR||Muster^Max^Invented||19700131|M|||Nowhere 1^^Musterstadt^^00000",
        "PD1||||D1^Beispiel^Berta",
        "NTE|1||invented remark about the patient",
        f"PV1|1|I|CARD^12^2^BENCH||||D2^Probe^Paul|||CAR|||||||D2^Probe^Paul||V{number}|||||||||||||||||||||||||20260301",
        "IN1|1|PLAN|KK1|Invented Insurance|||||||||||||Muster^Max",
        "AL1|1|DA|X1^Invented substance|MO",
        f"ORC|NW|{own}^HIS|||||^^^20260301123000^^R||20260301120000|U1^Schreib^Sina||D2^Probe^Paul|CARD",
        f"OBR|1|{own}^HIS||93000^12-lead ECG^CPT|||20260301123000||||||||^|D2^Probe^Paul||A{own}|||||||||^^^^^R",
        "NTE|1||at rest, 10 s",
        "DG1|1|I10|I48.0^Paroxysmal atrial fibrillation^I10|||W",
        "DG1|2|I10|R00.2^Palpitations^I10|||W",
        "OBX|1|NM|8302-2^Body height^LN||182|cm|||||F",
        "OBX|2|NM|3141-9^Body weight^LN||81|kg|||||F",
        "OBX|3|ST|X3^Pacemaker^BENCH||no||||||F",
        "NTE|1||told by the patient",
    )
    return "".join(line + "\r" for line in lines).encode()


def admission(number: int, lane: int) -> bytes:
    """An ADT^A08 of about 1 KB, of fifty patients a lane."""
    lines = (
        f"MSH|^~\\&|HIS|BENCH|CARDIO|BRIDGE|20260301120000+0100||ADT^A08^ADT_A01|D{lane}N{number}|P|2.5|||AL|NE",
        "EVN|A08|20260301120000",
        f"PID|1||{lane}{number % 50:03}^^^BENCH^MR||Muster^Max^Invented||19700131|M|||Nowhere 1^^Musterstadt^^00000",
        "PD1||||D1^Beispiel^Berta",
        "NK1|1|Muster^Mia|SPO|Nowhere 1^^Musterstadt^^00000",
        f"PV1|1|I|CARD^12^2^BENCH||||D2^Probe^Paul|||CAR|||||||D2^Probe^Paul||V{number}|||||||||||||||||||||||||20260301",
        *(f"OBX|{n}|ST|X{n}^Invented observation^BENCH||{'invented value ' * 4}||||||F" for n in range(1, 4)),
        "AL1|1|DA|X1^Invented substance|MO",
        "DG1|1||I48.0^Paroxysmal atrial fibrillation^I10|||W",
        "GT1|1||Muster^Max||Nowhere 1^^Musterstadt^^00000",
        "IN1|1|PLAN|KK1|Invented Insurance|||||||||||||Muster^Max",
    )
    return "".join(line + "\r" for line in lines).encode()
