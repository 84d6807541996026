import type { Look } from "./handshake.ts";

type Detail = Record<string, string | number | boolean>;

/** What went wrong, for the person on call. */
export function wordsOf({ trouble }: Look): string {
  if (trouble === undefined) return "the handshake ended without a certificate";
  const when = { connect: "connecting", handshake: "in the TLS handshake", reply: "waiting for the reply" }[trouble.at];
  return trouble.at === "connect" ? trouble.why : `${when}: ${trouble.why}`;
}

/** The evidence of one look: flat, public, small. */
export function detailOf(look: Look): Detail {
  const detail: Detail = { took: Math.round(look.took) };
  const add = (name: string, value: string | number | boolean | undefined) => {
    if (value !== undefined) detail[name] = value;
  };
  add("protocol", look.protocol);
  add("cipher", look.cipher);
  add("remote", look.remote);
  add("alert", look.trouble?.alert);
  add("code", look.trouble?.code);
  if (look.protocol !== undefined) add("resumed", look.resumed);
  return detail;
}

/** Server clock minus ours in ms, from the Date field (RFC 9110 §6.6.1), whose resolution is a second. `at`: our clock when it came. */
export function clockDifference(date: string | undefined, at: number): number | undefined {
  const theirs = date === undefined ? Number.NaN : Date.parse(date);
  // The server cut off the fraction: its clock was on average half a second further.
  return Number.isNaN(theirs) ? undefined : Math.round(theirs + 500 - at);
}
