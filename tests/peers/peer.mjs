// Gives @segment/analytics-node calls of several users, and writes down what it gave.
//
// flushed: a call of each user at a time, then flush(); all of a user's calls are then in order.
// unflushed: everything at once. The library posts batches side by side, so the order is that within a batch.
import { appendFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'

const { Analytics } = createRequire(`${process.env.PEERS_NODE_PACKAGES}/`)('@segment/analytics-node')
const [how, name, ledger] = process.argv.slice(2)
const N_USERS = 8
const N_CALLS = 30

const analytics = new Analytics({
  writeKey: process.env.PEERS_KEY,
  host: process.env.PEERS_HOST,
  // Its default but for the interval: what is left is posted at once.
  flushAt: 15,
  flushInterval: 100,
  httpRequestTimeout: 5000,
})
const write = (line) => appendFileSync(ledger, `${JSON.stringify(line)}\n`)
analytics.on('error', (error) => {
  console.error('not delivered:', error.code, error.reason ?? error.ctx?.failedDelivery?.())
  process.exitCode = 1
})
const seen = new Set()
analytics.on('http_request', ({ body }) => {
  const ids = JSON.parse(body).batch.map((call) => call.messageId)
  // Only the first attempt: a retry holds the same.
  if (how === 'unflushed' && !seen.has(ids[0])) write({ batch: ids })
  seen.add(ids[0])
})

function give(user, n) {
  const call = { userId: `${name}-${user}`, messageId: `${name}-${user}-${n}`, timestamp: new Date(1767323045678 + n) }
  if (n % 10 === 0) {
    const traits = { n, email: `${name}-${user}@example.com`, firstName: 'Zoë', plan: n ? 'pro' : 'free', deep: { a: [1, null] } }
    write({ type: 'identify', ...call, traits, ordered: how === 'flushed' })
    analytics.identify({ ...call, traits })
  } else {
    const properties = { n, revenue: 39.95, 'Größe ☃': '😀 </script>', list: [{ sku: 'a' }], none: null, tiny: 1e-7 }
    const context = n % 3 ? {} : { traits: { plan: 'of the event', n: -1 } }
    write({ type: 'track', ...call, event: 'Item Purchased', properties, context, ordered: how === 'flushed' })
    analytics.track({ ...call, event: 'Item Purchased', properties, context })
  }
}

for (let n = 0; n < N_CALLS; n++) {
  for (let user = 0; user < N_USERS; user++) give(user, n)
  if (how === 'flushed') await analytics.flush()
  await sleep(Number(process.env.PEERS_PAUSE_MS))
}
await analytics.closeAndFlush()
