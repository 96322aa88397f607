// What was seen in the last minutes: kept here, as the server keeps no history.

/** One a second: five minutes. */
const LENGTH = 300;

/** Polls that a rate is the mean of: fewer jump, more lag. */
const SMOOTHED = 4;

/** The last values of one figure; null where it was not known. */
export class Series {
  values = [];

  push(value) {
    this.values.push(value ?? null);
    if (this.values.length > LENGTH) this.values.shift();
  }
}

/** A counter as its increase a second. */
export class Rate extends Series {
  #before = [];

  /** Adds what was counted until `now` (seconds), and returns the rate of the last seconds. */
  count(total, now) {
    const last = this.#before.at(-1);
    // A smaller one is that of another process.
    if (last && (total == null || total < last.total)) this.#before = [];
    const increase = (from) => from && now > from.now ? (total - from.total) / (now - from.now) : null;
    this.push(increase(this.#before.at(-1)));
    const rate = increase(this.#before[0]);
    if (total != null) this.#before.push({ total, now });
    if (this.#before.length > SMOOTHED) this.#before.shift();
    return rate;
  }

  /** After a while without values, the next one says nothing about it. */
  interrupt() {
    this.#before = [];
    this.push(null);
  }
}

/** All figures of one app, or of all of them. */
export class Figures {
  requests = new Rate();
  errors = new Rate();
  cpu = new Rate();
  p50 = new Series();
  p99 = new Series();
  memory = new Series();
  busy = new Series();
  queue = new Series();

  /** Takes in what is counted of `seen`, and returns its rates. */
  take(seen, now) {
    this.p50.push(seen.p50);
    this.p99.push(seen.p99);
    this.memory.push(seen.memory);
    this.busy.push(seen.busy);
    this.queue.push(seen.queue);
    return {
      requests: this.requests.count(seen.requests, now),
      errors: this.errors.count(seen.errors, now),
      cpu: this.cpu.count(seen.cpu, now),
    };
  }

  interrupt() {
    for (const series of [this.requests, this.errors, this.cpu]) series.interrupt();
    for (const series of [this.p50, this.p99, this.memory, this.busy, this.queue]) series.push(null);
  }
}
