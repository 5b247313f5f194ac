// BullMQ on Redis: `work CONCURRENCY` is the worker; push, bulk and pace push and print one JSON line.
const { Queue, Worker } = require('bullmq')
const Redis = require('ioredis')

const url = process.env.PEER_REDIS_URL
const connect = () => new Redis(url, { maxRetriesPerRequest: null })
// Date.now() counts whole milliseconds.
const now = () => performance.timeOrigin + performance.now()
const sleep = (ms) => new Promise((done) => setTimeout(done, ms))
// Finished jobs are removed, so that Redis does not grow.
const defaultJobOptions = { removeOnComplete: true, attempts: 10 }

async function work(concurrency) {
  const samples = connect()
  const handle = async (job) => {
    if (job.name === 'stamp') await samples.rpush('bench:samples', now() - job.data.called)
    else if (job.data.sleepMs) await sleep(job.data.sleepMs)
  }
  const worker = new Worker('peer', handle, { connection: connect(), concurrency })
  worker.on('error', (error) => console.error(error))
  await worker.waitUntilReady()
  console.log('peer ready')
  process.on('SIGTERM', () => worker.close().then(() => process.exit(0)))
}

async function push(queue, count, concurrency) {
  let next = 0
  const one = async () => {
    while (next < count) await queue.add('noop', { note: String(next++) })
  }
  await Promise.all(Array.from({ length: concurrency }, one))
}

async function bulk(queue, count, sleepMs = 0) {
  for (let left = count; left > 0; left -= 1000) {
    const step = Math.min(1000, left)
    await queue.addBulk(Array.from({ length: step }, (_, n) => ({ name: 'noop', data: { note: String(n), sleepMs } })))
  }
}

async function pace(queue, rate, seconds) {
  const begin = now()
  for (let n = 0; n < rate * seconds; n++) {
    await sleep(Math.max(0, begin + (n * 1000) / rate - now()))
    await queue.add('stamp', { called: now() })
  }
}

async function main([command, ...rest]) {
  const numbers = rest.map(Number)
  if (command === 'work') return work(...numbers)
  const queue = new Queue('peer', { connection: connect(), defaultJobOptions })
  await queue.waitUntilReady()
  const [wall, cpu] = [performance.now(), process.cpuUsage()]
  await { push, bulk, pace }[command](queue, ...numbers)
  const used = process.cpuUsage(cpu)
  console.log(JSON.stringify({ seconds: (performance.now() - wall) / 1000, cpu: (used.user + used.system) / 1e6 }))
  process.exit(0)
}

main(process.argv.slice(2))
