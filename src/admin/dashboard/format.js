// Numbers as people read them: three digits and a unit.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

function threeDigits(value) {
  if (value < 9.995) return value.toFixed(2).replace(/\.?0+$/, "");
  return value < 99.95 ? value.toFixed(1).replace(/\.0$/, "") : value.toFixed(0);
}

export function bytes(count) {
  if (count == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [value, unit] = [count, 0];
  while (value >= 999.5 && unit + 1 < units.length) [value, unit] = [value / 1024, unit + 1];
  return `${threeDigits(value)} ${units[unit]}`;
}

/** How long something takes, in seconds. */
export function latency(seconds) {
  if (seconds == null) return "–";
  if (seconds <= 0) return "0";
  if (seconds < 0.0009995) return `${threeDigits(seconds * 1e6)} µs`;
  return seconds < 0.9995 ? `${threeDigits(seconds * 1e3)} ms` : `${threeDigits(seconds)} s`;
}

/** The two largest units of a time in seconds. */
export function duration(seconds) {
  const whole = Math.floor(Math.abs(seconds));
  const two = (large, name, small, below) => {
    const rest = Math.floor((whole % large) / small);
    return `${Math.floor(whole / large)}${name}` + (rest ? ` ${rest}${below}` : "");
  };
  if (whole < MINUTE) return `${whole}s`;
  if (whole < HOUR) return two(MINUTE, "m", 1, "s");
  return whole < DAY ? two(HOUR, "h", MINUTE, "m") : two(DAY, "d", HOUR, "h");
}

/** How often in a second, or how many. */
export function amount(value) {
  if (value == null) return "–";
  if (value < 0.005) return "0";
  if (value < 999.5) return threeDigits(value);
  return value < 999500 ? `${threeDigits(value / 1e3)} k` : `${threeDigits(value / 1e6)} M`;
}

export function count(value) {
  return value == null ? "–" : value.toLocaleString("en").replaceAll(",", "\u202f");
}

/** A part of one. */
export function percent(part) {
  if (part == null) return "–";
  return part < 0.00005 ? "0 %" : `${threeDigits(part * 100)} %`;
}

export const secondsSince = (time) => (Date.now() - Date.parse(time)) / 1000;

export function ago(time) {
  const since = secondsSince(time);
  return since < 1 ? "just now" : `${duration(since)} ago`;
}

/** The date and time here, to the second. */
export function clock(time) {
  const at = new Date(time);
  const two = (part) => String(part).padStart(2, "0");
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export const plural = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
