// What the programs share: checks by name, what must hold, known records.
import assert from 'node:assert/strict'

export const waitMaxMs = 30_000
export const firstTimestamp = 1_700_000_000_000 // of record 0; record N is N ms later
// Arguments: HOST:PORT, a prefix for names, a part of the checks' names.
export const [bootstrap, prefix, only = ''] = process.argv.slice(2)

/** Makes one check: prints `ok NAME` or `FAILED NAME: reason`. */
export async function run(name, body) {
  if (!name.includes(only)) return
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${3 * waitMaxMs} ms`)), 3 * waitMaxMs)
  })
  try {
    await Promise.race([body(), late])
    console.log(`ok ${name}`)
  } catch (error) {
    const where = /\/([\w-]+\.js:\d+)/.exec(error.stack ?? '')?.[1] ?? '?'
    const reasons = [error, ...(error.errors ?? [])].map(one => one.message ?? one)
    console.log(`FAILED ${name}: ${reasons.join('; ').replaceAll('\n', ' ')} (${where})`)
  } finally {
    clearTimeout(timer)
  }
}

export function equal(actual, expected, what) {
  assert.deepEqual(actual, expected, `${what}: ${show(actual)} instead of ${show(expected)}`)
}

export function require(holds, what) {
  assert.ok(holds, what)
}

/** The body fails with an error whose code, name or message, or that of a cause, holds `expected`. */
export async function refused(expected, body) {
  let error
  try {
    await body()
  } catch (thrown) {
    error = thrown
  }
  assert.ok(error, `accepted, not refused with ${expected}`)
  const said = parts(error).join(' ')
  assert.ok(said.includes(expected), `refused with ${said}, not ${expected}`)
}

function parts(error) {
  if (!error) return []
  const own = [error.name, error.type, error.code, error.apiId, error.apiCode, error.message]
  const inner = [...(error.errors ?? []), ...(error.groups ?? []).map(group => group.error)]
  return [...own, ...inner.flatMap(parts), ...parts(error.cause)]
}

export async function eventually(what, condition) {
  for (const deadline = Date.now() + waitMaxMs; !(await condition()); await sleep(10)) {
    assert.ok(Date.now() < deadline, `still not true: ${what}`)
  }
}

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

/** Record `number`: key and value, null and empty among them, and headers, decided by it. */
export function record(number) {
  const key = number % 7 === 0 ? null : `key-${number % 101}`
  const full = `value ${number} ${'ß'.repeat(number % 150)}`
  const value = number % 13 === 0 ? null : number % 11 === 0 ? '' : full
  const headers = {}
  for (let header = 0; header < number % 3; header++) headers[`header-${header}`] = `h${number}`
  return { key, value, headers, timestamp: firstTimestamp + number }
}

/** What the members of a group read: of each partition all offsets, in order, once. */
export class Ledger {
  next = new Map()
  count = 0

  add(topic, partition, offset, value) {
    const name = `${topic}-${partition}`
    const expected = this.next.get(name) ?? 0
    equal(Number(offset), expected, `next offset of ${name}`)
    equal(value, `value ${expected}`, 'its value')
    this.next.set(name, expected + 1)
    this.count++
  }
}

function show(value) {
  const text = JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? `${one}n` : one))
  return (text ?? 'undefined').slice(0, 300)
}
