"""Gives segment-analytics-python calls of several users, and writes down what it gave.

queued: its thread posts what waits, a batch after the other. gzip: the same, compressed. sync: a request a call.
"""

import json
import os
import sys
import time
from datetime import datetime, timedelta, timezone

from segment.analytics.client import Client

N_USERS, N_CALLS = 8, 30
how, name, ledger_path = sys.argv[1:]
failures = []

client = Client(
    os.environ["PEERS_KEY"],
    host=os.environ["PEERS_HOST"],
    gzip=how == "gzip",
    sync_mode=how == "sync",
    upload_size=20,
    upload_interval=0.1,
    timeout=5,
    on_error=lambda error, batch: failures.append((error, len(batch))),
)


def give(ledger, user, n):
    call = {"userId": f"{name}-{user}", "messageId": f"{name}-{user}-{n}", "ordered": True}
    timestamp = datetime(2026, 1, 2, 3, 4, 5, 678000, timezone.utc) + timedelta(milliseconds=n)
    same = {"user_id": call["userId"], "message_id": call["messageId"], "timestamp": timestamp}
    call["timestamp"] = timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if n % 10 == 0:
        traits = {"n": n, "email": f"{name}-{user}@example.com", "last_name": "Lovelace", "deep": {"a": [1, None]}}
        ledger.write(json.dumps({**call, "type": "identify", "traits": traits}) + "\n")
        ledger.flush()
        client.identify(traits=traits, **same)
    else:
        # Digits that no double holds.
        properties = {"n": n, "id": 12345678901234567890123, "revenue": 39.95, "Größe ☃": "😀 </script>", "no": None}
        context = {} if n % 3 else {"traits": {"plan": "of the event", "n": -1}}
        ledger.write(json.dumps({**call, "type": "track", "event": "A b", "properties": properties, "context": context}) + "\n")
        ledger.flush()
        client.track(event="A b", properties=properties, context=context, **same)


with open(ledger_path, "w", encoding="utf-8") as ledger:
    for n in range(N_CALLS):
        for user in range(N_USERS):
            give(ledger, user, n)
        time.sleep(int(os.environ["PEERS_PAUSE_MS"]) / 1000)
if how != "sync":
    client.shutdown()
for error, n_lost in failures:
    print(f"{n_lost} calls were not delivered: {error}")
sys.exit(1 if failures else 0)
