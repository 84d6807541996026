import type { Millis } from "../engine/model.ts";

const sizes: Readonly<Record<string, Millis>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** `30s`, `15m`, `24h`, `7d`, `1h30m` or a bare `0`, as manifests write them; undefined for anything else. */
export function parseLength(text: string): Millis | undefined {
  if (text === "0") return 0;
  if (!/^(\d+(\.\d+)?(ms|[smhdw]))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/g))
    total += Number(amount) * (sizes[unit ?? ""] ?? 0);
  // Beyond this no date can be written down.
  return total <= 8.64e15 ? total : undefined;
}
