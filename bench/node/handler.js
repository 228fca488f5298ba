// What one would write by hand: express, Segment's own SDK, no storage. Events that wait in memory are lost in a crash.
import { createHmac, timingSafeEqual } from "node:crypto";
import express from "express";
import { Analytics } from "@segment/analytics-node";

const NAMES = {
  delivered: "Email Delivered", opened: "Email Opened", clicked: "Email Link Clicked",
  bounced: "Email Bounced", spam: "Email Marked as Spam", unsubscribed: "Email Unsubscribed",
};
const [secret, host] = process.argv.slice(2);
const key = Buffer.from(secret.slice("whsec_".length), "base64");
const analytics = new Analytics({ writeKey: "bench-write-key", host, maxEventsInBatch: 100, flushInterval: 1000 });

const app = express();
app.post("/webhooks/nudgespot/:token", express.raw({ type: () => true, limit: "1mb" }), (request, response) => {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature = "" } = request.headers;
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(request.body).digest();
  const given = Buffer.from(signature.slice("v1,".length), "base64");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return response.sendStatus(401);
  const body = JSON.parse(request.body);
  for (const event of Array.isArray(body) ? body : [body]) {
    const { ip, user_agent: userAgent, ...properties } = event.properties;
    const { uid: userId, ...traits } = event.subscriber;
    analytics.track({
      messageId: `nudgespot-${event.id}`, userId, event: NAMES[event.event], timestamp: event.timestamp, properties,
      context: { ip, userAgent, traits }, integrations: { All: true, Nudgespot: false },
    });
  }
  response.json({ accepted: Array.isArray(body) ? body.length : 1 });
});
const server = app.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
