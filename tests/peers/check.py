"""Compares what the libraries were given with what the stand-in for Nudgespot was sent.

Arguments: the scenario, the stand-in's address, the folder of what was given, the file of when the service was killed.
"""

import json
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

# A step of the delivery: no more is done between two settlements, so no more can be done again after a kill.
MAX_REPEATS_PER_KILL = 128
PATIENCE_SECONDS = 60
# A library's call is as old at its arrival as its request took.
MAX_CLOCK_SECONDS = 30

scenario, stand_in, folder, kills_path = sys.argv[1:]
kills = [float(line) for line in Path(kills_path).read_text().split()]
differences = []


def given():
    """The calls by messageId, and the sequences of messageIds that must keep their order."""
    calls, sequences = {}, defaultdict(list)
    for path in sorted(Path(folder).glob("*.jsonl")):
        batches = []
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if "batch" in line:
                batches.append(line["batch"])
                continue
            calls[line["messageId"]] = line
            if line["ordered"]:
                sequences[line["userId"]].append(line["messageId"])
        for number, batch in enumerate(batches):
            for message_id in batch:
                user = calls[message_id]["userId"]
                sequences[f"{user}, batch {number} of {path.stem}"].append(message_id)
        if batches and Counter(id for batch in batches for id in batch) != Counter(
            id for id in calls if id.startswith(path.stem)
        ):
            differences.append(f"{path.stem}: the library did not post what it was given")
    return calls, sequences


def sent():
    """What the stand-in took, in order, by messageId: when it came and what it was."""
    with urllib.request.urlopen(f"{stand_in}/nudgespot/requests") as answer:
        requests = json.load(answer)
    arrived = []
    for request in requests:
        uid = request["uid"] or ""
        if request["method"] != "POST" or not uid.startswith(f"{scenario}-"):
            continue
        body = json.loads(request["body"])
        properties = body.get("subscriber", body.get("activity"))["properties"]
        at = datetime.fromisoformat(request["at"].replace("Z", "+00:00")).timestamp()
        arrived.append((f"{uid}-{properties['n']}", at, request["status"], body))
    return arrived


def expected(call):
    """What an identify is at Nudgespot, and a track but for its time."""
    if call["type"] == "identify":
        names = {"firstName": "first_name", "last_name": "last_name"}
        traits = dict(call["traits"])
        subscriber = {names[name]: traits.pop(name) for name in list(traits) if name in names}
        subscriber["contacts"] = [{"contact_type": "email", "contact_value": traits.pop("email")}]
        return {"subscriber": {"uid": call["userId"], **subscriber, "properties": traits}}
    properties = {**call["context"].get("traits", {}), **call["properties"]}
    return {"activity": {"event": call["event"], "subscriber": {"uid": call["userId"]}, "properties": properties}}


def seconds_late(call, body):
    """How much later than its own time a track is at Nudgespot."""
    there = datetime.fromisoformat(body["activity"].pop("timestamp").replace("Z", "+00:00"))
    return (there - datetime.fromisoformat(call["timestamp"].replace("Z", "+00:00"))).total_seconds()


calls, sequences = given()
deadline = time.monotonic() + PATIENCE_SECONDS
arrived = sent()
while calls.keys() - {message_id for message_id, *_ in arrived} and time.monotonic() < deadline:
    time.sleep(0.2)
    arrived = sent()

times = defaultdict(list)
identified = set()
for message_id, at, status, body in arrived:
    call = calls.get(message_id)
    if call is None:
        differences.append(f"{message_id} was never given")
        continue
    if status != 200:
        differences.append(f"{message_id} was answered {status}")
    if call["type"] == "identify":
        identified.add(call["userId"])
    else:
        if call["userId"] not in identified:
            differences.append(f"{message_id} came before its user's first identify")
        late = seconds_late(call, body)
        if not 0 <= late <= MAX_CLOCK_SECONDS:
            differences.append(f"{message_id} is {late} s later than it was")
    if body != expected(call):
        differences.append(f"{message_id} is not as it was given: {body}")
    # Again only where the service was killed in between.
    if times[message_id] and not any(times[message_id][-1] <= kill <= at for kill in kills):
        differences.append(f"{message_id} was sent again without need")
    times[message_id].append(at)

for message_id in calls.keys() - times.keys():
    differences.append(f"{message_id} is missing")
places = {}
for name, sequence in sequences.items():
    for place, message_id in enumerate(sequence):
        places.setdefault(message_id, (name, place))
reached = defaultdict(lambda: -1)
for message_id, *_ in arrived:
    if message_id in places:
        name, place = places[message_id]
        # A repeat begins again somewhere, and goes on in order.
        if place > reached[name] + 1:
            differences.append(f"{message_id} came too early: {place} after {reached[name]} of {name}")
        reached[name] = place
for name, sequence in sequences.items():
    if reached[name] != len(sequence) - 1:
        differences.append(f"{name} ends with {reached[name]} of {len(sequence)}")

n_repeats = sum(len(each) - 1 for each in times.values())
if n_repeats > len(kills) * MAX_REPEATS_PER_KILL:
    differences.append(f"{n_repeats} repeats are more than were in flight")
by_peer = Counter(message_id.rsplit("-", 2)[0] for message_id in times)
for peer, n in sorted(by_peer.items()):
    print(f"{peer:<28} {n:>5} calls arrived")
print(f"{scenario}: {len(times)} of {len(calls)} calls arrived, {n_repeats} of them again, after {len(kills)} kills; "
      f"{len(sequences)} sequences checked, {len(differences)} differences")
for difference in differences[:20]:
    print(f"  {difference}")
sys.exit(1 if differences else 0)
