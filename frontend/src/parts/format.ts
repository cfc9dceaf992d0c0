/** Times and sizes in words. */

/** Seconds as a reader says them. */
export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`.replace(" 60 s", " 59 s");
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(size: number): string {
  if (size < 1000) return `${size} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let scaled = size / 1000;
  let unit = 0;
  while (scaled >= 999.5 && unit < units.length - 1) {
    scaled /= 1000;
    unit += 1;
  }
  return `${scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)} ${units[unit]}`;
}

/** A count such as of parameters: 134.5 M. */
export function count(value: number): string {
  if (value < 10_000) return value.toLocaleString("en-GB");
  const [scaled, unit] = value < 1e6 ? [value / 1e3, "k"] : value < 1e9 ? [value / 1e6, "M"] : [value / 1e9, "G"];
  return `${scaled < 100 ? scaled.toFixed(1) : Math.round(scaled)} ${unit}`;
}

/** A moment in the reader's own time zone, in an order that sorts. */
export function moment(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** A share as a percentage with three digits that count. */
export function percent(share: number): string {
  const value = 100 * share;
  if (!Number.isFinite(value)) return "missing";
  if (value !== 0 && Math.abs(value) < 0.001) return "<0.001 %";
  return `${Number(value.toPrecision(3))} %`;
}

/** A name of the program in words: `logit_lens` becomes "logit lens". */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}
