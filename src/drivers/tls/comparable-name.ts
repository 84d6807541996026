import { normaliseDistinguishedName } from "../../pki/distinguished-name.ts";

/**
 * One spelling for a distinguished name however it was written: RFC 4514, `CN = a, O = b`, or `/O=b/CN=a`. For
 * comparing what a log or header says with what we know; a text that is no name is its own spelling.
 */
export function comparableName(text: string): string {
  const trimmed = text.trim();
  const rfc4514 = trimmed.startsWith("/") ? fromSlashes(trimmed) : trimmed;
  try {
    return normaliseDistinguishedName(rfc4514);
  } catch {
    return trimmed;
  }
}

/** OpenSSL's one-line form, outermost first: `/O=b/CN=a`. A slash inside a value is not escaped there, so only `/TYPE=` separates. */
function fromSlashes(text: string): string {
  return text
    .split(/\/(?=[A-Za-z][A-Za-z0-9.]*=)/)
    .filter((part) => part !== "")
    .map((part) => part.replace(/^([^=]*)=(.*)$/s, (_, type: string, value: string) => `${type}=${escapeValue(value)}`))
    .reverse()
    .join(",");
}

const escapeValue = (value: string): string => value.replace(/[",+;<>\\]/g, "\\$&").replace(/^[ #]|(?<=.) $/g, "\\$&");
