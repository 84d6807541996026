/**
 * Whether typed names of a certificate cover a typed name a client asks for (RFC 6125 6.4, RFC 9525): a wildcard is the
 * whole leftmost label and stands for exactly one label; addresses match exactly; the subject's CN never counts.
 */
export function covers(names: readonly string[], wanted: string): boolean {
  const name = wanted.startsWith("DNS:") ? `DNS:${wanted.slice(4).toLowerCase().replace(/\.$/, "")}` : wanted;
  if (names.includes(name)) return true;
  if (!name.startsWith("DNS:")) return false;
  const dot = name.indexOf(".");
  // A label that is an A-label is not matched by a wildcard inside it; the whole-label wildcard matches it.
  return dot > "DNS:".length && names.includes(`DNS:*${name.slice(dot)}`);
}
